//! `setup`: by script, at a terminal, again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{Home, KEY, Model, Terminal, run};

fn env(home: &Home) -> String {
    fs::read_to_string(home.at(".env")).unwrap_or_default()
}

fn mode(home: &Home) -> u32 {
    fs::metadata(home.at(".env")).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn by_script_from_nothing_to_an_answer_and_again() {
    let home = Home::new();
    for _ in 0..2 {
        let told = home.run(&["setup", "--yes"]).ok();
        let steps = ["home", "sandbox", "image", "key", "zone", "name", "whatsapp", "message"];
        for step in steps {
            assert!(told.lines().any(|line| line.starts_with(step)), "{step}: {told}");
        }
        assert!(told.contains("echo: Hello!"), "{told}");
    }
    assert_eq!("", env(&home), "there was nothing to keep");
    home.run(&["doctor"]).ok();
}

#[test]
fn a_step_that_fails_leaves_those_before_it_and_says_why() {
    let home = Home::new();
    home.engine_mode("image-missing build-fails");
    let done = home.run(&["setup", "--yes"]);
    assert_eq!(Some(1), done.code, "{done:?}");
    assert!(done.stdout.contains("sandbox    docker answers and has no image yet"), "{done:?}");
    assert!(done.stderr.contains("the build ended with") && done.stderr.contains("No such image"));
    home.engine_mode("image-missing");
    let told = home.run(&["setup", "--yes"]).ok();
    assert!(told.contains("image      docker built") && told.contains("echo: Hello!"), "{told}");
}

#[test]
fn nothing_that_makes_sandboxes_is_an_error_with_a_command() {
    let home = Home::new();
    home.engine_mode("not-ready");
    home.run(&["setup", "sandbox"]).refused(1, &["docker does not answer", "start docker"]);
}

#[test]
fn a_key_is_tried_and_kept_for_the_owner_alone() {
    let mut home = Home::new();
    let _model = Model::start_alone(&mut home);
    let before =
        "# mine\nexport ASSISTANT_NAME='Bo'\nOTHER=x\n\nCLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-x\n";
    home.write_env(before);
    let refused = home.run_with(&["setup", "key"], "sk-ant-api03-wrong\n");
    refused.refused(1, &["refuses that key with status 401; nothing was changed"]);
    assert_eq!(before, env(&home));
    for bad in ["sk-ant-admin01-x", "a key"] {
        home.run_with(&["setup", "key"], bad).refused_somehow(1);
        assert_eq!(before, env(&home));
    }
    let done = home.run_with(&["setup", "key"], &format!("{KEY}\n"));
    assert!(!format!("{done:?}").contains(KEY), "it is never shown");
    let told = done.ok();
    assert!(told.contains("the model API takes it") && told.contains("to undo it: "), "{told}");
    let rest = "# mine\nexport ASSISTANT_NAME='Bo'\nOTHER=x\n\n";
    assert_eq!(format!("{rest}ANTHROPIC_API_KEY={KEY}\n"), env(&home));
    assert_eq!(0o600, mode(&home));
    assert!(!home.log().contains(KEY));

    let undo = told.lines().find_map(|line| line.trim().strip_prefix("to undo it: "));
    home.shell(undo.expect("a command"), "").ok();
    assert_eq!(rest, env(&home));
}

#[test]
fn an_answer_that_is_no_text_is_not_called_output() {
    let home = Home::new();
    for step in ["key", "zone", "name"] {
        let done = run(home.command(&["setup", step]), b"\xff\n");
        done.refused(1, &["cannot read standard input: stream did not contain valid UTF-8"]);
    }
}

#[test]
fn a_key_of_the_environment_is_kept_for_the_service() {
    let mut home = Home::new();
    let _model = Model::start_alone(&mut home);
    home.set("ANTHROPIC_API_KEY", KEY);
    // The demo answers the last step.
    home.set("AGENT_ENGINE", "demo");
    home.run(&["setup", "--yes"]).ok();
    assert_eq!(format!("ANTHROPIC_API_KEY={KEY}\n"), env(&home));
    assert_eq!(0o600, mode(&home));
}

#[test]
fn what_the_environment_sets_otherwise_is_said_to_count() {
    let mut home = Home::new();
    let _model = Model::start_alone(&mut home);
    home.set("ANTHROPIC_API_KEY", "sk-ant-api03-old");
    home.set("ASSISTANT_NAME", "Eva");
    let old = "the environment's ANTHROPIC_API_KEY counts until `unset ANTHROPIC_API_KEY`";
    let told = home.run_with(&["setup", "key"], KEY).ok();
    assert!(told.contains("is in .env") && told.contains(old), "{told}");
    let told = home.run_with(&["setup", "name"], "Bo").ok();
    let name = "the environment's ASSISTANT_NAME counts until `unset ASSISTANT_NAME`";
    assert!(told.contains(&format!("Bo; {name}")), "{told}");
    for (setting, says) in [("ANTHROPIC_API_KEY", old), ("ASSISTANT_NAME", name)] {
        let told = home.run(&["setup", "--unset", setting]).ok();
        assert!(told.contains(says) && !told.contains("then counts"), "{told}");
    }
    assert_eq!("", env(&home));

    // What is the same in both is no other, and what is not set any more is silent.
    home.set("ANTHROPIC_API_KEY", KEY);
    assert!(!home.run_with(&["setup", "key"], KEY).ok().contains("counts until"));
    home.unset("ANTHROPIC_API_KEY");
    assert!(!home.run_with(&["setup", "key"], KEY).ok().contains("counts until"));

    // A key goes before a token, so it is what hides that.
    home.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    home.set("ANTHROPIC_API_KEY", KEY);
    let told = home.run_with(&["setup", "key"], "sk-ant-oat01-x").ok();
    assert!(told.contains("CLAUDE_CODE_OAUTH_TOKEN is in .env") && told.contains(old), "{told}");
}

#[test]
fn no_answer_leaves_the_key_as_it_is_and_says_so() {
    let mut home = Home::new();
    let _model = Model::start_alone(&mut home);
    assert!(home.run_with(&["setup", "key"], "\n").ok().contains("none; the demo engine answers"));
    let before = format!("ANTHROPIC_API_KEY={KEY}\n");
    home.write_env(&before);
    let told = home.run_with(&["setup", "key"], "\n").ok();
    assert_eq!("key        unchanged; there is one\n", told);
    assert_eq!(before, env(&home));
}

#[test]
fn at_a_terminal_the_key_is_not_shown_although_the_output_goes_elsewhere() {
    let mut home = Home::new();
    let _model = Model::start_alone(&mut home);
    let setup = home.command(&["setup", "key"]);
    let mut piped = Command::new("/bin/sh");
    piped.args(["-c", "\"$0\" \"$@\" | cat"]).arg(setup.get_program()).args(setup.get_args());
    piped.env_clear().envs(setup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = Terminal::start(piped);
    terminal.expect("it is not shown): ");
    assert!(!terminal.is_echoing());
    terminal.press(&format!("{KEY}\r"));
    let shown = terminal.until("is in .env, for you alone");
    assert!(!shown.contains(KEY), "{shown}");
    assert_eq!(Some(0), terminal.end());
    assert_eq!(format!("ANTHROPIC_API_KEY={KEY}\n"), env(&home));
}

#[test]
fn at_a_terminal_nothing_is_read_where_nothing_is_to_be_asked() {
    let home = Home::new();
    let mut terminal = Terminal::start(home.command(&["setup", "--yes", "key", "zone"]));
    terminal.expect("none; the demo engine answers");
    terminal.expect("zone       ");
    assert_eq!(Some(0), terminal.end());
}

#[test]
fn at_a_terminal_the_key_is_not_shown_and_the_terminal_is_as_before() {
    let mut home = Home::new();
    let _model = Model::start_alone(&mut home);
    home.set("AGENT_ENGINE", "demo");
    let mut terminal = Terminal::start(home.command(&["setup"]));
    terminal.expect("it is not shown): ");
    crate::support::wait_for("a terminal that hides", || !terminal.is_echoing());
    terminal.press(&format!("{KEY}\r"));
    let shown = terminal.until("Time zone [");
    assert!(!shown.contains(KEY), "{shown}");
    crate::support::wait_for("a terminal that shows", || terminal.is_echoing());
    terminal.press("Europe/Berlin\r");
    terminal.expect("Name of the assistant [Andy]: ");
    terminal.press("Bo\r");
    if cfg!(feature = "whatsapp") {
        terminal.expect("link WhatsApp now, with your phone at hand? [y/N] ");
        terminal.press("\r");
    }
    terminal.expect("echo: Hello!");
    assert_eq!(Some(0), terminal.end());
    assert_eq!(
        format!("ANTHROPIC_API_KEY={KEY}\nTZ=Europe/Berlin\nASSISTANT_NAME=Bo\n"),
        env(&home)
    );
}

#[test]
fn wrong_words_are_refused_with_those_allowed() {
    let home = Home::new();
    home.run(&["setup", "nonsense"]).refused(1, &["no step `nonsense`", "sandbox, image, key"]);
    home.run(&["setup", "--unset", "NONSENSE"]).refused(1, &["no setting `NONSENSE`"]);
    home.run_with(&["setup", "zone"], "Mars/Base\n").refused(1, &["is no time zone"]);
    home.run_with(&["setup", "name"], &"x".repeat(51)).refused(1, &["is too long"]);
    assert_eq!("", env(&home));
}
