//! From a [`SandboxSpec`] to an argument vector: one file per runtime, pure.
//!
//! What the vectors have in common: nothing of the host is visible but the mounts, the root is
//! read-only, the process has no capability and cannot gain one, and a file that it writes belongs
//! to the user who runs us.

mod apple;
mod bwrap;
mod docker;
mod podman;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use rustix::process::{Resource, getegid, geteuid, getrlimit};

use super::spec::{RuntimeKind, SandboxSpec};

pub use bwrap::write_identity;
pub(super) use bwrap::{ask_to_end, explain, trial};

/// What an argument vector depends on besides the spec: facts about this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// User and group that the agent's files shall belong to: ours.
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The engine itself runs without root, in a user namespace.
    pub(super) is_rootless: bool,
    /// Control groups of version 1, which a rootless engine may not use.
    pub(super) is_cgroup_v1: bool,
    /// Version of the runtime, as far as it matters.
    pub(super) version: (u32, u32),
    /// More than these cannot be asked for without root. None: no bound.
    pub(super) open_files_max: Option<u64>,
    pub(super) processes_max: Option<u64>,
    /// `/bin`, `/lib`, … as they are here.
    pub(super) root_entries: Vec<RootEntry>,
}

/// A folder beside `/usr` that programs expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootEntry {
    /// A link into `/usr`, as on all newer systems: path and target.
    Link(PathBuf, PathBuf),
    /// A folder of its own.
    Folder(PathBuf),
}

impl Host {
    /// Looks around.
    pub(super) fn here() -> Host {
        let max = |resource| getrlimit(resource).maximum;
        Host {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            open_files_max: max(Resource::Nofile),
            processes_max: max(Resource::Nproc),
            root_entries: ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
                .into_iter()
                .map(PathBuf::from)
                .filter_map(|path| match fs::read_link(&path) {
                    Ok(target) => Some(RootEntry::Link(path, target)),
                    Err(_) => path.is_dir().then_some(RootEntry::Folder(path)),
                })
                .collect(),
            ..Host::default()
        }
    }
}

/// The arguments that make `kind` run `spec` in the foreground, with our standard streams.
pub(super) fn argv(kind: RuntimeKind, host: &Host, spec: &SandboxSpec) -> Vec<OsString> {
    let mut args = Args::default();
    match kind {
        RuntimeKind::Docker => docker::run(&mut args, host, spec),
        RuntimeKind::Podman => podman::run(&mut args, host, spec),
        RuntimeKind::Apple => apple::run(&mut args, host, spec),
        RuntimeKind::Bwrap => bwrap::run(&mut args, host, spec),
    }
    args.0
}

/// What `kind` cannot cap here, for a person.
pub(super) fn uncapped(kind: RuntimeKind, host: &Host) -> &'static [&'static str] {
    match kind {
        RuntimeKind::Podman if host.is_rootless && host.is_cgroup_v1 => {
            &["memory, processors and processes (rootless podman needs control groups v2)"]
        }
        RuntimeKind::Docker | RuntimeKind::Podman => &[],
        RuntimeKind::Apple => {
            &["processes and open files (and with the network `model-only` there is no model)"]
        }
        RuntimeKind::Bwrap if host.uid == 0 => &[
            "memory and processors",
            "processes (the kernel exempts root: run as another user)",
            "the network `full`: it includes the host's loopback and abstract sockets",
        ],
        RuntimeKind::Bwrap => &[
            "memory and processors",
            "the network `full`: it includes the host's loopback and abstract sockets",
        ],
    }
}

/// An argument vector in the making.
#[derive(Default)]
pub(super) struct Args(pub(super) Vec<OsString>);

impl Args {
    /// Adds one argument.
    fn add(&mut self, arg: impl Into<OsString>) -> &mut Args {
        self.0.push(arg.into());
        self
    }

    /// Adds several.
    fn all<const N: usize>(&mut self, args: [&str; N]) -> &mut Args {
        self.0.extend(args.map(OsString::from));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::fakes::spec;
    use crate::sandbox::spec::Network;

    fn host(uid: u32, is_rootless: bool) -> Host {
        Host { uid, gid: uid, is_rootless, version: (4, 3), ..Host::default() }
    }

    /// All arguments, each on its line.
    fn text(kind: RuntimeKind, host: &Host, spec: &SandboxSpec) -> String {
        let args = argv(kind, host, spec);
        args.iter().map(|arg| arg.to_string_lossy() + "\n").collect()
    }

    fn has(text: &str, lines: &str) -> bool {
        format!("\n{text}").contains(&format!("\n{}\n", lines.replace(' ', "\n")))
    }

    #[test]
    fn h31_files_belong_to_the_host_user() {
        let cases = [
            (RuntimeKind::Docker, host(1000, false), "--user 1000:1000"),
            (RuntimeKind::Docker, host(501, false), "--user 501:501"),
            (RuntimeKind::Docker, host(0, false), "--user 0:0"),
            // Root inside is the engine's user outside.
            (RuntimeKind::Docker, host(1000, true), "--user 0:0"),
            (RuntimeKind::Podman, host(1001, true), "--userns keep-id --user 1001:1001"),
            (RuntimeKind::Podman, host(0, false), "--user 1000:1000 --uidmap 1000:0:1"),
            (RuntimeKind::Apple, host(501, false), "--user 501:501"),
            (RuntimeKind::Bwrap, host(1001, false), "--uid 1000 --gid 1000"),
            (RuntimeKind::Bwrap, host(0, false), "--uid 1000 --gid 1000"),
        ];
        for (kind, host, expected) in cases {
            let text = text(kind, &host, &spec());
            assert!(has(&text, expected), "{kind} as {}: {text}", host.uid);
        }
        // The Claude Code CLI refuses to work as root where it does not know of a sandbox.
        assert!(has(&text(RuntimeKind::Docker, &host(0, false), &spec()), "--env IS_SANDBOX=1"));
        assert!(!has(&text(RuntimeKind::Docker, &host(7, false), &spec()), "--env IS_SANDBOX=1"));
    }

    #[test]
    fn h58_limits_and_walls_are_there_by_default() {
        for kind in [RuntimeKind::Docker, RuntimeKind::Podman] {
            let text = text(kind, &host(1000, kind == RuntimeKind::Podman), &spec());
            for expected in [
                "--memory 2048m --memory-swap 2048m",
                "--cpus 2",
                "--pids-limit 512",
                "--ulimit nofile=4096:4096",
                "--security-opt no-new-privileges",
                "--cap-drop ALL",
                "--read-only",
                "--init",
                "--rm",
                "--pull never",
                "--log-driver none",
                "--label rust-claw.home=0123456789abcdef",
            ] {
                assert!(has(&text, expected), "{kind} lacks {expected}: {text}");
            }
            assert!(!has(&text, "--network none"));
        }
        let text = text(RuntimeKind::Bwrap, &host(0, false), &spec());
        for expected in [
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--new-session",
            "--die-with-parent",
            "--clearenv",
            "--cap-drop ALL",
            // As root, the host's /proc/sys would be writable.
            "--remount-ro /proc",
            "--remount-ro /",
            "--setenv CLAW_PIDS_MAX 512",
        ] {
            assert!(has(&text, expected), "bwrap lacks {expected}: {text}");
        }
    }

    #[test]
    fn h58_the_network_can_be_closed() {
        let closed = SandboxSpec { network: Network::ProxyOnly, ..spec() };
        for kind in RuntimeKind::ALL {
            let option =
                if kind == RuntimeKind::Bwrap { "--unshare-net" } else { "--network none" };
            assert!(has(&text(kind, &host(1000, false), &closed), option), "{kind}");
            assert!(!has(&text(kind, &host(1000, false), &spec()), option), "{kind}");
        }
    }

    #[test]
    fn h56_values_stay_one_argument() {
        let mut spec = spec();
        spec.env = vec![("TZ".into(), "a b; $(x) --privileged".into())];
        spec.mounts[0].host = "/home/a b/--privileged".into();
        for kind in RuntimeKind::ALL {
            let args = argv(kind, &host(1000, false), &spec);
            assert!(!args.contains(&OsString::from("--privileged")), "{kind}");
            let whole = |part: &str| args.iter().any(|arg| arg.to_string_lossy().contains(part));
            assert!(whole("a b; $(x) --privileged"), "{kind}");
            assert!(whole("/home/a b/--privileged"), "{kind}");
        }
    }

    #[test]
    fn mounts_keep_their_order_and_their_right() {
        let text = text(RuntimeKind::Docker, &host(1000, false), &spec());
        let group = text.find("type=bind,src=/home/u/g,dst=/workspace/group\n");
        let logs = text.find("type=bind,src=/home/u/g/logs,dst=/workspace/group/logs,readonly\n");
        assert!(group.expect("writable") < logs.expect("read-only"));
        let bwrap = self::text(RuntimeKind::Bwrap, &host(1000, false), &spec());
        let group = bwrap.find("--bind\n/home/u/g\n/workspace/group\n");
        let logs = bwrap.find("--ro-bind\n/home/u/g/logs\n/workspace/group/logs\n");
        assert!(group.expect("writable") < logs.expect("read-only"));
    }

    #[test]
    fn podman_asks_for_no_more_than_it_may_have() {
        let poor =
            Host { open_files_max: Some(1024), processes_max: Some(300), ..host(1001, true) };
        let text = text(RuntimeKind::Podman, &poor, &spec());
        assert!(has(&text, "--ulimit nofile=1024:1024"));
        assert!(has(&text, "--ulimit nproc=300:300"));
        assert!(has(&text, "--http-proxy=false"), "nor does it hand in ours");
    }
}
