use std::fs;

use super::*;

/// Loads with `.env` of the given content and the given environment.
fn load(file: &str, env: &[(&str, &str)]) -> Result<Settings, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::at(dir.path());
    fs::write(home.env_file(), file).expect("a file");
    let env =
        |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let home = home.env_file().display().to_string();
    Settings::load(&Home::at(dir.path()), env)
        .map_err(|error| error.to_string().replace(&home, ".env"))
}

fn check(file: &str, env: &[(&str, &str)], expected: &str) {
    assert_eq!(Err(expected.to_owned()), load(file, env).map(drop), "{file:?} {env:?}");
}

#[test]
fn defaults() {
    let settings = load("", &[]).expect("defaults are allowed");
    assert_eq!("Andy", settings.assistant_name);
    assert_eq!(Duration::from_mins(30), settings.idle_timeout);
    assert_eq!(Duration::from_mins(30), settings.container_timeout);
    assert_eq!(5, settings.concurrent_runs_max);
    assert_eq!(log::LevelFilter::Info, settings.log_level);
    assert_eq!(None, settings.anthropic_api_key);
    let names: std::collections::BTreeSet<_> = VARIABLES.iter().map(|v| v.name).collect();
    assert_eq!(VARIABLES.len(), names.len());
}

#[test]
fn environment_goes_before_file_and_empty_is_none() {
    let file = "IDLE_TIMEOUT=60000\nASSISTANT_NAME=José\nTZ=Europe/Berlin\nOTHER='x\n";
    let settings = load(file, &[("ASSISTANT_NAME", "小助手"), ("IDLE_TIMEOUT", ""), ("TZ", " ")])
        .expect("fine");
    assert_eq!("小助手", settings.assistant_name);
    assert_eq!(Duration::from_mins(1), settings.idle_timeout);
    assert_eq!(Tz::Europe__Berlin, settings.timezone);
}

#[test]
fn a_value_that_cannot_be_used_is_told_with_its_place() {
    check(
        "\n\nIDLE_TIMEOUT=abc",
        &[],
        ".env:3: IDLE_TIMEOUT: `abc` is not a number of milliseconds; allowed: 1000 to 86400000",
    );
    check(
        "",
        &[("MAX_CONCURRENT_CONTAINERS", "257")],
        "environment: MAX_CONCURRENT_CONTAINERS: `257` is out of range; allowed: 1 to 256",
    );
    check(
        "CONTAINER_RUNTIME='lxc'",
        &[],
        ".env:1: CONTAINER_RUNTIME: `lxc` is none of these; allowed: auto, docker, podman, \
         container or bwrap",
    );
    check(
        "RUNNER=\"/x",
        &[],
        ".env:1: RUNNER: the quote is not closed on its line; allowed: an absolute path",
    );
    for (name, value) in [
        ("MAX_CONCURRENT_CONTAINERS", "0"),
        ("MAX_CONCURRENT_CONTAINERS", "-1"),
        ("IDLE_TIMEOUT", "999"),
        ("CONTAINER_TIMEOUT", "86400001"),
        ("CONTAINER_MAX_OUTPUT_SIZE", "1e6"),
        ("ASSISTANT_NAME", "a\nb"),
        ("ASSISTANT_HAS_OWN_NUMBER", "maybe"),
        ("CONTAINER_IMAGE", "--privileged"),
        ("ANTHROPIC_BASE_URL", "api.anthropic.com"),
        ("ANTHROPIC_BASE_URL", "http://"),
        ("CONTAINER_CLI", "docker"),
        ("LOG_LEVEL", "off"),
        ("CREDENTIALS", "env"),
        ("AGENT_ENGINE", "gpt"),
        ("WHATSAPP_VERSION", "2.3000"),
        ("WHATSAPP_VERSION", "2.3000.1.2"),
        ("WHATSAPP_VERSION", "2.3000.x"),
        ("WHATSAPP_URL", "https://web.whatsapp.com/"),
        ("WHATSAPP_URL", "wss://"),
    ] {
        let error = load("", &[(name, value)]).map(drop).expect_err(value);
        assert!(error.starts_with(&format!("environment: {name}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn h44_a_posix_zone_is_refused() {
    check(
        "TZ=IST-2",
        &[],
        ".env:1: TZ: `IST-2` is no time zone of the IANA database; allowed: an IANA name like \
         Europe/Berlin",
    );
}

#[test]
fn secrets_show_neither_in_errors_nor_in_debug() {
    let key = "sk planted";
    let error = load("", &[("ANTHROPIC_API_KEY", key)]).map(drop).expect_err("a space");
    assert!(!error.contains("planted"), "{error}");
    let settings = load("CLAUDE_CODE_OAUTH_TOKEN=planted", &[]).expect("a token");
    assert_eq!(Some("planted"), settings.claude_code_oauth_token.as_ref().map(Secret::reveal));
    assert!(!format!("{settings:?}").contains("planted"));
}

#[test]
fn readme_tells_of_every_setting_and_its_default() {
    let readme = include_str!("../../README.md");
    for variable in VARIABLES {
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{}` |", variable.name)));
        let row = row.unwrap_or_else(|| panic!("README says nothing of {}", variable.name));
        assert!(row.contains(variable.meaning), "{row}");
        assert!(row.contains(variable.default), "{row}");
    }
}
