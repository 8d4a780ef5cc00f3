//! bubblewrap's command line: the host's `/usr` read-only, a few files of `/etc`, the mounts, and
//! nothing else. Source: bwrap(1), 0.6 and later.
//!
//! `--die-with-parent` is bound to the *thread* that started bwrap (prctl(2), `PR_SET_PDEATHSIG`):
//! whoever spawns a sandbox must be a thread that lives until the sandbox ends.

use std::path::Path;
use std::{fs, io};

use rust_claw_protocol::{env, inside};
use rustix::process::Pid;

use super::{Args, Host, RootEntry};
use crate::sandbox::engine::Finding;
use crate::sandbox::spec::{Network, SandboxSpec};

/// Where our own programs are inside.
const PROGRAMS: &str = "/run/claw-bin";
/// Of the host's `/etc`: what name resolution, TLS and the dynamic linker need. No accounts, no
/// settings of services.
const ETC: [&str; 15] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "resolv.conf",
    "ssl",
];

pub(super) fn run(args: &mut Args, host: &Host, spec: &SandboxSpec) {
    base(args, host, spec.network, Some(spec.limits.tmpfs_mib()));
    if let Some(identity) = &spec.identity {
        for file in ["passwd", "group"] {
            args.add("--ro-bind").add(identity.join(file)).add(format!("/etc/{file}"));
        }
    }
    for mount in &spec.mounts {
        args.add(if mount.writable { "--bind" } else { "--ro-bind" });
        args.add(&mount.host).add(&mount.inside);
    }
    let program = format!("{PROGRAMS}/claw-agent-runner");
    args.add("--ro-bind").add(&spec.program).add(&program);
    let mut claude = None;
    if let Some(path) = &spec.claude {
        // Under /usr it is visible anyway, together with what may lie beside it.
        claude = Some(if path.starts_with("/usr") {
            path.clone().into_os_string()
        } else {
            let inside = format!("{PROGRAMS}/claude");
            args.add("--ro-bind").add(path).add(&inside);
            inside.into()
        });
    }
    // After everything was put in its place, nothing but the mounts and the tmpfs is writable.
    args.all(["--remount-ro", "/"]);
    let set = |args: &mut Args, key: &str, value: std::ffi::OsString| {
        args.add("--setenv").add(key).add(value);
    };
    set(args, "PATH", format!("{PROGRAMS}:/usr/local/bin:/usr/bin:/bin").into());
    set(args, "HOME", inside::HOME.into());
    set(args, "USER", "node".into());
    set(args, "SHELL", "/bin/bash".into());
    set(args, "LANG", "C.UTF-8".into());
    set(args, "CLAUDE_CONFIG_DIR", inside::CLAUDE_CONFIG.into());
    set(args, env::PIDS_MAX, spec.limits.pids.to_string().into());
    set(args, env::OPEN_FILES_MAX, spec.limits.open_files.to_string().into());
    if let Some(claude) = claude {
        set(args, env::CLAUDE, claude);
    }
    for (key, value) in &spec.env {
        set(args, key, value.into());
    }
    args.add("--chdir").add(inside::GROUP).add("--").add(program);
}

/// The walls, without anything of the group.
fn base(args: &mut Args, host: &Host, network: Network, tmpfs_mib: Option<u32>) {
    args.all(["--unshare-user", "--uid", "1000", "--gid", "1000"]);
    args.all(["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    if network == Network::ProxyOnly {
        args.add("--unshare-net");
    }
    args.all(["--new-session", "--die-with-parent", "--clearenv", "--cap-drop", "ALL"]);
    if (0, 8) <= host.version {
        // Keeps the agent from the parts of the kernel that only a namespace of its own opens.
        args.add("--disable-userns");
    }
    args.all(["--hostname", "claw", "--ro-bind", "/usr", "/usr"]);
    for entry in &host.root_entries {
        match entry {
            RootEntry::Link(path, target) => args.add("--symlink").add(target).add(path),
            RootEntry::Folder(path) => args.add("--ro-bind").add(path).add(path),
        };
    }
    for name in ETC {
        args.add("--ro-bind-try").add(format!("/etc/{name}")).add(format!("/etc/{name}"));
    }
    // Read-only, for /proc/sys: the kernel checks those files against the id outside, which may
    // be root's.
    args.all(["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]);
    for path in ["/tmp", "/dev/shm", inside::HOME] {
        if let Some(size) = tmpfs_mib
            && (0, 7) <= host.version
        {
            args.add("--size").add((u64::from(size) * 1024 * 1024).to_string());
        }
        args.add("--tmpfs").add(path);
    }
}

/// Arguments of a sandbox that does nothing, to see whether there can be one.
pub(in crate::sandbox) fn trial(host: &Host) -> Vec<std::ffi::OsString> {
    let mut args = Args::default();
    base(&mut args, host, Network::ProxyOnly, None);
    args.all(["--remount-ro", "/", "--", "/usr/bin/env", "true"]);
    args.0
}

/// Why the trial failed. `setting` reads a file below `/proc/sys`.
pub(in crate::sandbox) fn explain(
    complaint: &str,
    setting: impl Fn(&str) -> Option<String>,
) -> Finding {
    let is = |path, value: &str| setting(path).is_some_and(|text| text.trim() == value);
    let (why, mend) = if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        (
            "AppArmor keeps programs from making user namespaces \
             (kernel.apparmor_restrict_unprivileged_userns is 1)"
                .to_owned(),
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else if is("user/max_user_namespaces", "0") {
        (
            "user namespaces are switched off (user.max_user_namespaces is 0)".to_owned(),
            "sudo sysctl -w user.max_user_namespaces=15000",
        )
    } else if is("kernel/unprivileged_userns_clone", "0") {
        (
            "user namespaces are for root only (kernel.unprivileged_userns_clone is 0)".to_owned(),
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    } else {
        (complaint.to_owned(), "bwrap --unshare-user --ro-bind / / true")
    };
    Finding { what: "bwrap cannot make a sandbox".into(), why, mend: mend.into(), blocks: true }
}

/// Writes `passwd` and `group` for the user inside, into a folder that no sandbox can write.
///
/// # Errors
/// What the file system reports.
pub fn write_identity(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("passwd"),
        format!(
            "node:x:1000:1000:node:{}:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
            inside::HOME
        ),
    )?;
    fs::write(folder.join("group"), "node:x:1000:\nnogroup:x:65534:\n")
}

/// Sends SIGTERM to the program inside; false if there is none. bwrap itself would end at once on a
/// signal, and take the program with it; and the program is in no group of ours, because its
/// session is new.
#[cfg(target_os = "linux")]
pub(in crate::sandbox) fn ask_to_end(bwrap: Pid) -> bool {
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    let children = |of: Pid| -> Vec<Pid> {
        // Source: proc_pid_task(5). Host's own file; no sandbox writes it.
        let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    };
    let mut is_asked = false;
    for init in children(bwrap) {
        for program in children(init) {
            let Ok(handle) = pidfd_open(program, PidfdFlags::empty()) else { continue };
            // Still a child of it: so the handle is not of a process that reused the id.
            if children(init).contains(&program) {
                is_asked |= pidfd_send_signal(handle, Signal::TERM).is_ok();
            }
        }
    }
    is_asked
}

/// There is no bubblewrap elsewhere.
#[cfg(not(target_os = "linux"))]
pub(in crate::sandbox) fn ask_to_end(_: Pid) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h29_the_switch_that_forbids_namespaces_is_named() {
        let check = |path: &str, value: &str, mend: &str| {
            let finding =
                explain("bwrap: oh", |asked| (asked == path).then(|| format!("{value}\n")));
            assert_eq!(mend, finding.mend);
            assert!(finding.blocks);
        };
        check(
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        );
        check("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000");
        check(
            "kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        );
        check("user/max_user_namespaces", "15000", "bwrap --unshare-user --ro-bind / / true");
        assert_eq!("bwrap: oh", explain("bwrap: oh", |_| None).why);
    }

    #[test]
    fn a_claude_outside_of_usr_is_brought_in() {
        let args = |claude: &str| {
            let spec = SandboxSpec { claude: Some(claude.into()), ..crate::sandbox::fakes::spec() };
            super::super::argv(crate::sandbox::RuntimeKind::Bwrap, &Host::default(), &spec)
                .iter()
                .map(|arg| arg.to_string_lossy() + "\n")
                .collect::<String>()
        };
        let brought = args("/home/u/.local/bin/claude");
        assert!(brought.contains("--ro-bind\n/home/u/.local/bin/claude\n/run/claw-bin/claude\n"));
        assert!(brought.contains("--setenv\nCLAW_CLAUDE\n/run/claw-bin/claude\n"));
        let there = args("/usr/local/bin/claude");
        assert!(there.contains("--setenv\nCLAW_CLAUDE\n/usr/local/bin/claude\n"));
        assert!(!there.contains("/run/claw-bin/claude"));
    }
}
