//! Podman's command line: Docker's, but for users and limits. Source: podman-run(1), 3.4 and later.

use super::{Args, Host, docker};
use crate::sandbox::spec::SandboxSpec;

/// As many as there are process ids. Source: default of `/proc/sys/kernel/pid_max`.
const PROCESSES_MAX: u64 = 32768;

pub(super) fn run(args: &mut Args, host: &Host, spec: &SandboxSpec) {
    let at_most = |max: Option<u64>, wanted: u64| max.map_or(wanted, |max| wanted.min(max));
    // Podman has no daemon: it cannot give more than it was given itself.
    docker::start(args, spec, at_most(host.open_files_max, spec.limits.open_files.into()));
    // Else it hands in the host's proxies, with their passwords.
    args.add("--http-proxy=false");
    // Its own default may be more than we may have. The kernel counts all processes of the user, in
    // the sandbox or not, so this bound is a wide one; what caps the sandbox is `--pids-limit`.
    let processes = at_most(host.processes_max, PROCESSES_MAX);
    args.add("--ulimit").add(format!("nproc={processes}:{processes}"));
    // Podman would fill the empty file system from the image.
    docker::tmpfs(args, spec, ",notmpcopyup");
    if host.is_rootless {
        args.all(["--userns", "keep-id", "--user"]).add(format!("{}:{}", host.uid, host.gid));
    } else {
        // Nobody inside is root: our own id outside is 1000 inside, the rest is shifted around it.
        args.all(["--user", "1000:1000"]);
        for (option, own) in [("--uidmap", host.uid), ("--gidmap", host.gid)] {
            for map in [format!("1000:{own}:1"), "0:1:1000".into(), "1001:1001:64536".into()] {
                args.add(option).add(map);
            }
        }
    }
    docker::finish(args, spec);
}
