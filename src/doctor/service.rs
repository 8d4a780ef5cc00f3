//! Whether the daemon comes back by itself (hazard 76).

use std::fs;
use std::time::Duration;

use super::{Line, Scene};
use crate::sandbox::{ask, find_program};
use crate::service::{Manager, Service};

const ABOUT: &str = "service";
/// How long `loginctl` may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The service, and whether it outlives a logout.
pub(super) fn service(scene: &Scene<'_>) -> Vec<Line> {
    let install = scene.own("install-service");
    let service = match Service::here(scene.home) {
        Ok(service) => service,
        Err(why) => return vec![Line::remark(ABOUT, why, None)],
    };
    let Ok(installed) = fs::read_to_string(&service.file) else {
        let says = "not installed: the daemon runs only while you start it yourself";
        return vec![Line::remark(ABOUT, says, Some(install))];
    };
    let mut lines = Vec::new();
    let missing: Vec<&str> =
        service.path.split(':').filter(|dir| !installed.contains(dir)).collect();
    if !runs_us(&installed) {
        lines.push(Line::bad(ABOUT, "it starts a program that is not there", &install));
    } else if service.link.as_deref().is_some_and(|link| !link.exists()) {
        lines.push(Line::bad(ABOUT, "installed, and not enabled", &install));
    } else if !missing.is_empty() {
        let says = format!("its PATH lacks {}", missing.join(":"));
        lines.push(Line::bad(ABOUT, says, &install));
    } else if installed != service.text {
        let says = "not as this program would write it";
        lines.push(Line::remark(ABOUT, says, Some(install)));
    } else {
        lines.push(Line::good(ABOUT, "installed and enabled"));
    }
    lines.extend(linger());
    lines
}

/// Whether the program that the description names is there.
fn runs_us(installed: &str) -> bool {
    let quoted = match Manager::HERE {
        Manager::Systemd => installed
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=\""))
            .and_then(|rest| rest.split_once("\" --home"))
            .map(|(word, _)| word.replace("$$", "$").replace("%%", "%")),
        Manager::Launchd => installed
            .split_once("<array><string>")
            .and_then(|(_, rest)| rest.split_once("</string>"))
            .map(|(word, _)| word.to_owned()),
    };
    quoted.is_some_and(|program| fs::metadata(program).is_ok())
}

/// Whether the user's services go on after the logout.
fn linger() -> Option<Line> {
    if Manager::HERE == Manager::Launchd {
        return None;
    }
    let loginctl = find_program("loginctl")?;
    let user = rustix::process::geteuid().as_raw().to_string();
    let args = ["show-user", &user, "--property=Linger"].map(Into::into);
    Some(match ask(&loginctl, &args, ANSWER_MAX) {
        Ok(answer) if answer.stdout == "Linger=yes" => {
            Line::good("linger", "the service goes on when you log out")
        }
        Ok(answer) if answer.is_ok => {
            let says = "the service ends when you log out";
            Line::bad("linger", says, "loginctl enable-linger")
        }
        Ok(answer) => Line::remark("linger", format!("not known: {}", answer.complaint), None),
        Err(error) => Line::remark("linger", format!("not known: {error}"), None),
    })
}
