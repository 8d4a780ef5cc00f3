//! What the agent sees and what it can change.

use std::os::unix::fs::PermissionsExt;

use super::{EVIL, PLANTED, backwards, in_every_engine};

/// Each line of what was tried has to end in `no`.
fn all_refused(said: &str, count: usize) {
    // Had it worked, it would have been said.
    assert!(said.contains("control: yes\n"), "{said}");
    let tries: Vec<&str> = said.lines().filter(|line| line.starts_with("try ")).collect();
    assert_eq!(count, tries.len(), "{said}");
    for line in tries {
        assert!(line.ends_with(": no"), "{line}\nof:\n{said}");
    }
}

/// A script that tries each command, and says of each whether it worked.
fn tries(commands: &[&str]) -> String {
    let control = "echo x >/workspace/group/x && rm /workspace/group/x";
    let mut script = format!("if ( {control} ); then echo control: yes; fi\n");
    for command in commands {
        let shown = command.replace(['"', '$', '`', '\\'], "");
        let outcome = " ) >/dev/null 2>&1; then w=yes; else w=no; fi\n";
        script.extend(["if ( ", command, outcome, "echo \"try ", &shown, ": $w\"\n"]);
    }
    script
}

in_every_engine! {
    fn h48_h52_nothing_that_was_planted_is_anywhere(arena) {
        // The key, other settings, the database, the other group's files, name and words.
        let said = arena.attack(&format!("hunt {}", backwards(PLANTED)));
        assert!(said.starts_with("looked at "), "{said}");
        // Of its own the hunter does find something: it can hunt.
        arena.sh(&format!("echo {}-mine | rev >/workspace/group/bait", backwards("bait-9d2")));
        let said = arena.attack(&format!("hunt {}", backwards("bait-9d2")));
        assert!(said.contains("in /workspace/group/bait"), "{said}");
    }

    fn h48_main_sees_groups_and_no_secret(arena) {
        let begun = arena.begin("script:boss", &format!("hunt {}", backwards(PLANTED)));
        let said = arena.end("script:boss", begun);
        // What main is for; and nothing else.
        let found: Vec<&str> = said.lines().filter(|line| !line.starts_with("looked")).collect();
        assert_eq!(vec!["in /workspace/project/other/diary.md"], found);
        let begun = arena.begin("script:boss", &format!("sh\n{}", tries(&[
            "echo x >/workspace/project/other/diary.md",
            "echo x >/workspace/project/x",
            "rm /workspace/project/other/diary.md",
            "ls /workspace/project/../store",
            "echo x >/workspace/group/logs/x",
            "echo x >/home/node/.claude/settings.json",
        ])));
        all_refused(&arena.end("script:boss", begun), 6);
        let begun = arena.begin("script:boss", "sh\necho shared >/workspace/global/x && cat /workspace/global/x");
        assert_eq!("shared\n[0]", arena.end("script:boss", begun));
    }

    fn h48_the_hosts_paths_lead_nowhere(arena) {
        let (home, user) = (arena.home.at(""), arena.home.path("user"));
        let (home, user) = (home.display(), user.display());
        let said = arena.sh(&tries(&[
            &format!("cat {home}/.env"),
            &format!("cat {home}/store/messages.db"),
            &format!("cat {home}/store/whatsapp.db"),
            &format!("cat {home}/groups/other/diary.md"),
            &format!("ls {user}"),
            &format!("cat /proc/1/root{home}/.env"),
            "cat /workspace/group/../other/diary.md",
            "ls /workspace/project",
            "ls /root/.ssh",
            "ls /var/run/docker.sock || ls /run/docker.sock || ls /run/podman",
            "ls /dev/sda || ls /dev/vda || ls /dev/mem || ls /dev/kmsg",
        ]));
        all_refused(&said, 11);
    }

    fn h48_what_is_read_only_stays_as_it_is(arena) {
        let said = arena.sh(&tries(&[
            "echo x >/workspace/global/x",
            "echo x >>/workspace/global/CLAUDE.md",
            "rm /workspace/global/CLAUDE.md",
            "echo x >/workspace/group/logs/x",
            "rm -f /workspace/group/logs/container-*",
            "mv /workspace/group/logs /workspace/group/old",
            "rmdir /workspace/group/logs",
            "ln -sfn /etc /workspace/group/logs && test -L /workspace/group/logs",
            "echo '{}' >/home/node/.claude/settings.json",
            "rm /home/node/.claude/settings.json",
            "mv /home/node/.claude/settings.json /home/node/.claude/old",
            "echo x >/run/claw/x",
            "rm /run/claw/proxy.sock",
            "mv /run/claw /run/old",
            "echo x >/usr/local/bin/claw-agent-runner",
            "echo x >/run/claw-bin/claw-agent-runner",
            "echo x >/usr/bin/x",
            "echo x >/etc/passwd",
            "echo x >/x",
            "mkdir /workspace/x",
        ]));
        all_refused(&said, 20);
        let logs = std::fs::read_dir(arena.home.at("groups/evil/logs")).expect("a folder").count();
        assert!(0 < logs, "its log is still there");
    }

    fn h58_no_right_that_a_process_could_misuse(arena) {
        let said = arena.sh(&tries(&[
            "mount -t tmpfs none /tmp",
            "mount -o remount,rw /",
            "mount -o remount,bind,rw /workspace/global",
            "umount /workspace/group/logs",
            "unshare --mount true",
            "unshare --net true",
            // Podman lets it have a user namespace of its own; what is gained there is nothing.
            "unshare --user --map-root-user --mount mount -o remount,bind,rw /workspace/global",
            "unshare --user --map-root-user --mount mount -o remount,bind,rw /",
            "unshare --user --map-root-user --mount umount /workspace/group/logs",
            "unshare --user --map-root-user --mount umount /home/node/.claude/settings.json",
            "unshare --user --map-root-user mknod /tmp/mem c 1 1",
            "unshare --user --map-root-user sh -c 'echo 1 >/proc/sys/kernel/sysrq'",
            "chroot / true",
            "mknod /workspace/group/disk b 8 0",
            "mknod /tmp/mem c 1 1",
            "echo 1 >/proc/sys/kernel/sysrq",
            "echo x >/proc/sys/kernel/core_pattern",
            "echo x >/proc/sys/kernel/hostname",
            "echo b >/proc/sysrq-trigger",
            "echo 0 >/sys/kernel/mm/ksm/run",
            "hostname x",
            "date -s 2000-01-01",
            "chown 12345 /workspace/group",
            "cat /proc/kcore | head -c 1 | grep -q .",
            "dmesg",
            "ls /sys/fs/cgroup && mkdir /sys/fs/cgroup/x",
            "nsenter --target 1 --mount --net true",
        ]));
        all_refused(&said, 27);
        if arena.home.kind() != crate::support::Kind::Podman {
            all_refused(&arena.sh(&tries(&["unshare --user true"])), 1);
        }
        let status = arena.sh("grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status");
        for line in status.lines().filter(|line| line.starts_with("Cap")) {
            assert!(line.ends_with("\t0000000000000000"), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        // No terminal to type into (TIOCSTI), no process but its own.
        let said = arena.sh("tty; ls /proc | grep -c '^[0-9]'; ps -e 2>/dev/null | wc -l");
        assert!(said.contains("not a tty"), "{said}");
        let count = said.lines().nth(1).and_then(|line| line.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count < 20), "{said}");
    }

    fn h60_no_log_holds_what_was_said(arena) {
        arena.sh("echo my own words are swordfish >&1");
        arena.home.inject(EVIL, "hello from swordfish");
        arena.is_served();
        let mut looked = 0;
        let mut folders = vec![arena.home.at("logs"), arena.home.at("groups/evil/logs"), arena.home.at("groups/other/logs")];
        while let Some(folder) = folders.pop() {
            for path in crate::support::entries(&folder) {
                let bytes = std::fs::read(&path).expect("a log");
                let text = String::from_utf8_lossy(&bytes);
                looked += 1;
                for word in [PLANTED, "swordfish", "hello"] {
                    assert!(!text.contains(word), "`{word}` is in {}", path.display());
                }
                let mode = std::fs::metadata(&path).expect("a log").permissions().mode();
                assert_eq!(0o600, mode & 0o777, "{}", path.display());
            }
        }
        assert!(3 <= looked, "{looked} logs");
    }
}
