//! Apple's `container`: every container is a virtual machine of its own, so there is no capability
//! to drop and no host process to hide. Source: `docs/command-reference.md` of apple/container.

use rust_claw_protocol::inside;

use super::{Args, Host, docker};
use crate::sandbox::spec::{Network, SandboxSpec};

pub(super) fn run(args: &mut Args, host: &Host, spec: &SandboxSpec) {
    args.all(["run", "--interactive", "--rm"]);
    args.add("--name").add(&spec.name);
    args.add("--label").add(format!("rust-claw.home={}", spec.home_label));
    args.add("--label").add(format!("rust-claw.folder={}", spec.folder));
    args.add("--memory").add(format!("{}M", spec.limits.memory_mib));
    // Whole processors only: a virtual machine has no half one.
    args.add("--cpus").add(format!("{:.0}", spec.limits.cpus.ceil().max(1.0)));
    args.add("--user").add(format!("{}:{}", host.uid, host.gid));
    for path in ["/tmp", inside::HOME] {
        args.add("--tmpfs").add(path);
    }
    if spec.network == Network::ProxyOnly {
        args.all(["--network", "none"]);
    }
    args.add("--workdir").add(inside::GROUP);
    for mount in &spec.mounts {
        args.add("--mount").add(docker::bind(mount, "source", "target"));
    }
    for (key, value) in &spec.env {
        args.add("--env").add(format!("{key}={value}"));
    }
    args.add(&spec.image);
}
