//! The program as a service of its user: a systemd user unit, or a launchd agent. What is written,
//! and where; `install-service` writes it and `doctor` compares.
//!
//! The unit does not shut the program in as one would a web server. Every directive of systemd that
//! works by a namespace or by seccomp sets `NoNewPrivileges` in a user's unit, or hides the host's
//! files: then rootless podman loses `newuidmap`, docker the files that it is to mount, and bwrap
//! its namespaces. The walls are the sandboxes' own. Source: systemd.exec(5), "Sandboxing".

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::home::Home;
use crate::limits::SERVICE_STOP_MAX;

/// Who starts services here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// systemd's manager of the user's own units.
    Systemd,
    /// macOS.
    Launchd,
}

impl Manager {
    /// That of this system.
    pub const HERE: Manager =
        if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };
}

/// A service as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the manager calls it.
    pub name: String,
    /// Where its description is.
    pub file: PathBuf,
    /// The link by which systemd starts it with the user's session; `None` with launchd.
    pub link: Option<PathBuf>,
    /// Its description.
    pub text: String,
    /// The folders in which it finds programs.
    pub path: String,
}

impl Service {
    /// That of `home` and of this program on this system, with the `PATH` of this process.
    ///
    /// # Errors
    /// What is not known: the user's home folder, or where this program is.
    pub fn here(home: &Home) -> Result<Service, &'static str> {
        let user_home = env::home_dir().filter(|path| path.is_absolute());
        let user_home = user_home.ok_or("nobody says where your home folder is: set HOME")?;
        let program = env::current_exe().map_err(|_| "it is not known where this program is")?;
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.filter(|path| path.is_absolute());
        let folder = match Manager::HERE {
            Manager::Systemd => {
                config.unwrap_or_else(|| user_home.join(".config")).join("systemd/user")
            }
            Manager::Launchd => user_home.join("Library/LaunchAgents"),
        };
        let is_default = home.root() == user_home.join(".rust-claw");
        let path = path_of(&env::var_os("PATH").unwrap_or_default());
        let name = name_of(Manager::HERE, (!is_default).then(|| home.label()).as_deref());
        Ok(Service::new(Manager::HERE, name, &folder, &program, home, path))
    }

    fn new(
        manager: Manager,
        name: String,
        folder: &Path,
        program: &Path,
        home: &Home,
        path: String,
    ) -> Service {
        let (file, link, text) = match manager {
            Manager::Systemd => {
                let file = format!("{name}.service");
                let link = folder.join("default.target.wants").join(&file);
                (file, Some(link), unit(program, home, &path))
            }
            Manager::Launchd => {
                (format!("{name}.plist"), None, property_list(&name, program, home, &path))
            }
        };
        Service { name, file: folder.join(file), link, text, path }
    }
}

/// One name for the usual home folder; for others, one each.
fn name_of(manager: Manager, label: Option<&str>) -> String {
    let name = match manager {
        Manager::Systemd => "rust-claw",
        Manager::Launchd => "com.github.rust-claw",
    };
    label.map_or_else(|| name.to_owned(), |label| format!("{name}-{}", &label[..8]))
}

/// The folders of `PATH` that mean the same everywhere, each once; what a system has at least,
/// behind them.
fn path_of(path: &OsStr) -> String {
    let mut folders: Vec<String> = Vec::new();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    for folder in env::split_paths(path).filter(|path| path.is_absolute()).chain(usual) {
        let folder = folder.to_string_lossy().into_owned();
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.join(":")
}

fn unit(program: &Path, home: &Home, path: &str) -> String {
    let program = quoted(&program.to_string_lossy()).replace('$', "$$");
    let root = quoted(&home.root().to_string_lossy()).replace('$', "$$");
    format!(
        "# Written by `rust-claw install-service`, and written anew by it: put changes of your own\n\
         # into a drop-in (`systemctl --user edit`).\n\
         [Unit]\n\
         Description=rust-claw, a personal assistant\n\
         # It waits for network and engine by itself. A loop of crashes is slow, and never given up.\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={program} --home {root} run\n\
         Environment={environment}\n\
         Restart=on-failure\n\
         RestartSec=10\n\
         # 78: the settings or the database cannot be used, which no restart mends.\n\
         RestartPreventExitStatus=78\n\
         # The daemon ends its sandboxes itself; what is left after that is killed.\n\
         KillMode=mixed\n\
         TimeoutStopSec={stop}\n\
         # A sandbox that runs out of memory is a turn that failed, not the end of the service.\n\
         OOMPolicy=continue\n\
         UMask=0077\n\
         LimitCORE=0\n\
         # No directive here that works by a namespace or by seccomp: in a user's unit they take\n\
         # newuidmap from rootless podman and namespaces from bubblewrap.\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        environment = quoted(&format!("PATH={path}")),
        stop = SERVICE_STOP_MAX.as_secs(),
    )
}

/// One word of a unit. Source: systemd.syntax(7), "Quoting", and the specifiers of systemd.unit(5).
fn quoted(word: &str) -> String {
    let mut quoted = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            c if c.is_ascii_control() => quoted.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Source: launchd.plist(5). launchd knows no exit code that it must not restart after: it tries
/// each half minute.
fn property_list(name: &str, program: &Path, home: &Home, path: &str) -> String {
    let string = |text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!("<string>{text}</string>")
    };
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by `rust-claw install-service`, and written anew by it. -->
<plist version="1.0">
<dict>
  <key>Label</key>{label}
  <key>ProgramArguments</key>
  <array>{program}<string>--home</string>{root}<string>run</string></array>
  <key>EnvironmentVariables</key>
  <dict><key>PATH</key>{path}</dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key>
  <dict><key>SuccessfulExit</key><false/></dict>
  <key>ThrottleInterval</key><integer>30</integer>
  <key>ExitTimeOut</key><integer>{stop}</integer>
  <key>Umask</key><integer>63</integer>
</dict>
</plist>
"#,
        label = string(name),
        program = string(&program.to_string_lossy()),
        root = string(&home.root().to_string_lossy()),
        path = string(path),
        stop = SERVICE_STOP_MAX.as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(manager: Manager, program: &str, home: &str) -> Service {
        let home = Home::at(Path::new(home));
        let name = name_of(manager, None);
        let path = path_of(OsStr::new("/opt/x/bin:relative:/usr/bin:/opt/x/bin"));
        Service::new(manager, name, Path::new("/etc/x"), Path::new(program), &home, path)
    }

    #[test]
    fn h76_the_path_is_that_of_the_person_without_what_means_something_else_elsewhere() {
        let service = service(Manager::Systemd, "/p", "/h");
        assert_eq!("/opt/x/bin:/usr/bin:/usr/local/bin:/bin", service.path);
        let line = "\nEnvironment=\"PATH=/opt/x/bin:/usr/bin:/usr/local/bin:/bin\"\n";
        assert!(service.text.contains(line), "{}", service.text);
    }

    #[test]
    fn words_of_a_unit_stay_words() {
        let text = service(Manager::Systemd, "/a b/$x/rust-claw", "/h\"o\\m%e\n").text;
        let line = r#"ExecStart="/a b/$$x/rust-claw" --home "/h\"o\\m%%e\x0a" run"#;
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn a_unit_restarts_after_failures_and_not_where_it_makes_no_sense() {
        let text = service(Manager::Systemd, "/p", "/h").text;
        for line in ["Restart=on-failure", "RestartPreventExitStatus=78", "TimeoutStopSec=90"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        // What breaks an engine in a user's unit.
        let harmful = ["Protect", "Private", "NoNewPrivileges", "Restrict", "SystemCall", "Memory"];
        let directives = text.lines().filter(|line| !line.starts_with('#'));
        for line in directives.filter(|line| line.contains('=')) {
            let is_harmful = |word: &str| line.starts_with(word);
            assert!(
                !harmful.iter().any(|word| is_harmful(word)) || line.ends_with("=78"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_property_list_holds_any_path() {
        let service = service(Manager::Launchd, "/a&b/rust-claw", "/<h>");
        assert_eq!(Path::new("/etc/x/com.github.rust-claw.plist"), service.file);
        let arguments = "<array><string>/a&amp;b/rust-claw</string><string>--home</string>\
                         <string>/&lt;h&gt;</string><string>run</string></array>";
        assert!(service.text.contains(arguments), "{}", service.text);
        assert!(!service.text.contains("<string></string>"));
    }

    #[test]
    fn each_home_has_a_service_of_its_own() {
        assert_eq!("rust-claw", name_of(Manager::Systemd, None));
        assert_eq!("rust-claw-01234567", name_of(Manager::Systemd, Some("0123456789abcdef")));
    }
}
