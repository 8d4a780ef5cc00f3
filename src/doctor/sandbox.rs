//! What agents run in.

use super::{Line, Scene, TrialError, trial};
use crate::agent;
use crate::config::{AgentEngine, Settings};
use crate::sandbox::{Engine, Finding, RuntimeKind, find_program, keeper};

/// The runtime, the image or runner (hazard 30), who owns what is written inside (hazard 31), and
/// what is left of earlier sandboxes.
pub(super) fn sandbox(scene: &Scene<'_>) -> Vec<Line> {
    let Ok(settings) = &scene.settings else { return Vec::new() };
    let command = |finding: &Finding| match finding.mend.strip_prefix("rust-claw ") {
        Some(arguments) => scene.own(arguments),
        None => finding.mend.clone(),
    };
    let found = match keeper::find(settings, &agent::runner(settings)) {
        Ok(found) => found,
        Err(finding) => {
            let says = format!("{}: {}", finding.what, finding.why);
            return vec![Line::bad("sandbox", says, command(&finding))];
        }
    };
    let engine = &found.engine;
    let kind = engine.kind();
    let mut lines = vec![Line::good("sandbox", format!("{kind} answers"))];
    for finding in &found.passed_over {
        let says = format!("{kind} serves, since {}: {}", finding.what, finding.why);
        lines.push(Line::remark("sandbox", says, Some(command(finding))));
    }
    for what in engine.uncapped() {
        lines.push(Line::remark("sandbox", format!("{kind} does not limit {what}"), None));
    }
    match found.findings.first() {
        Some(finding) => {
            let says = format!("{}: {}", finding.what, finding.why);
            lines.push(Line::remark("image", says, Some(command(finding))));
        }
        None if kind == RuntimeKind::Bwrap => {
            lines.push(Line::good("image", "none is needed, the agent runner is there"));
        }
        None => lines.push(Line::good("image", format!("`{}`", settings.container_image))),
    }
    if scene.home.root().is_dir() {
        lines.push(files(scene, engine, settings));
    }
    lines.extend(left_over(scene, engine, settings));
    if kind == RuntimeKind::Bwrap && settings.engine() == AgentEngine::Claude {
        lines.push(match settings.claude_cli.clone().or_else(|| find_program("claude")) {
            Some(_) => Line::good("claude", "the Claude Code CLI is there"),
            None => Line::bad(
                "claude",
                "the Claude Code CLI is not there; bwrap takes the host's",
                "npm install -g @anthropic-ai/claude-code",
            ),
        });
    }
    lines
}

fn files(scene: &Scene<'_>, engine: &Engine, settings: &Settings) -> Line {
    match trial(engine, scene.home, settings) {
        Ok(()) => Line::good("files", "what an agent writes is yours"),
        Err(error @ TrialError::Prepare(_)) => Line::remark("files", crate::chain(&error), None),
        Err(error) => Line::bad("files", crate::chain(&error), scene.own("setup sandbox")),
    }
}

/// Containers of this home that no run owns.
fn left_over(scene: &Scene<'_>, engine: &Engine, settings: &Settings) -> Option<Line> {
    let owned = engine.list_owned(&scene.home.label()).ok()?;
    let alive = match (&scene.stored, scene.holder) {
        (Some(Ok(stored)), Some(_)) => stored.containers.as_slice(),
        _ => &[],
    };
    let left: Vec<String> = owned.into_iter().filter(|name| !alive.contains(name)).collect();
    if left.is_empty() {
        return (engine.kind() != RuntimeKind::Bwrap)
            .then(|| Line::good("containers", "none is left over"));
    }
    let cli = settings.container_cli.as_deref().map(super::command::word);
    let cli = cli.unwrap_or_else(|| engine.kind().to_string());
    let says = format!("{} belong to no run", left.len());
    Some(Line::bad("containers", says, format!("{cli} rm --force {}", left.join(" "))))
}
