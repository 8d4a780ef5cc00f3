//! Docker's command line. Source: `docker run --help`, Docker Engine 20.10 and later.

use rust_claw_protocol::inside;

use super::{Args, Host};
use crate::limits;
use crate::sandbox::spec::{Mount, Network, SandboxSpec};

pub(super) fn run(args: &mut Args, host: &Host, spec: &SandboxSpec) {
    let nofile = u64::from(spec.limits.open_files);
    start(args, spec, nofile);
    tmpfs(args, spec, "");
    // A rootless engine maps its own user, ours, to root inside.
    let (uid, gid) = if host.is_rootless { (0, 0) } else { (host.uid, host.gid) };
    args.add("--user").add(format!("{uid}:{gid}"));
    if uid == 0 {
        // Root without a capability, and without any right over other users' files.
        args.all(["--env", "IS_SANDBOX=1"]);
    }
    finish(args, spec);
}

/// What docker and podman have in common, up to who runs inside.
pub(super) fn start(args: &mut Args, spec: &SandboxSpec, nofile: u64) {
    let limits = &spec.limits;
    args.all(["run", "--interactive", "--rm", "--init", "--pull", "never"]);
    args.add("--name").add(&spec.name);
    args.add("--label").add(format!("rust-claw.home={}", spec.home_label));
    args.add("--label").add(format!("rust-claw.folder={}", spec.folder));
    // Else the engine keeps a copy of every answer, without bound.
    args.all(["--log-driver", "none"]);
    args.add("--stop-timeout").add(limits::STOP_GRACE.as_secs().to_string());
    args.add("--memory").add(format!("{}m", limits.memory_mib));
    // The same number: no swap on top.
    args.add("--memory-swap").add(format!("{}m", limits.memory_mib));
    args.add("--cpus").add(limits.cpus.to_string());
    args.add("--pids-limit").add(limits.pids.to_string());
    args.add("--ulimit").add(format!("nofile={nofile}:{nofile}"));
    args.all(["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--read-only"]);
    if spec.network == Network::ProxyOnly {
        args.all(["--network", "none"]);
    }
}

/// The two places besides the mounts where something can be written. `exec`: agents write scripts
/// there and run them.
pub(super) fn tmpfs(args: &mut Args, spec: &SandboxSpec, extra: &str) {
    for (path, mode) in [("/tmp", "1777"), (inside::HOME, "0777")] {
        let size = spec.limits.tmpfs_mib();
        args.add("--tmpfs");
        args.add(format!("{path}:rw,exec,nosuid,nodev,mode={mode},size={size}m{extra}"));
    }
}

/// Mounts, environment, image.
pub(super) fn finish(args: &mut Args, spec: &SandboxSpec) {
    args.add("--workdir").add(inside::GROUP);
    for mount in &spec.mounts {
        args.add("--mount").add(bind(mount, "src", "dst"));
    }
    for (key, value) in &spec.env {
        args.add("--env").add(format!("{key}={value}"));
    }
    args.add(&spec.image);
}

/// A mount as an option; [`SandboxSpec::check`] has refused what CSV would take apart.
pub(super) fn bind(mount: &Mount, source: &str, target: &str) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(format!("type=bind,{source}="));
    option.push(&mount.host);
    option.push(format!(",{target}="));
    option.push(&mount.inside);
    if !mount.writable {
        option.push(",readonly");
    }
    option
}
