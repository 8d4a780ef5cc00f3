//! Commands as a person types them.

use std::env;
use std::path::Path;

use crate::credentials::Credential;
use crate::home::Home;
use crate::sandbox::find_program;
use crate::store::AdditionalMount;

/// `rust-claw ARGUMENTS` for this home, as it works where the person types it.
pub fn own_command(home: &Home, arguments: &str) -> String {
    let on_path = find_program("rust-claw").and_then(|path| path.canonicalize().ok());
    let ours = env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let mut command =
        if on_path.as_ref() == Some(&ours) { "rust-claw".to_owned() } else { word(&ours) };
    if Home::resolve(None).ok().as_ref() != Some(home) {
        command.push_str(" --home ");
        command.push_str(&word(home.root()));
    }
    format!("{command} {arguments}")
}

/// The command that takes another key than this. What the environment sets, which is in
/// `environment`, goes before what the command keeps, so that has to go first.
pub fn key_command(home: &Home, key: Option<&Credential>, environment: &[&str]) -> String {
    let command = own_command(home, "setup key");
    match key.map(Credential::setting).filter(|name| environment.contains(name)) {
        Some(name) => format!("unset {name} && {command}"),
        None => command,
    }
}

/// The command that writes an allowlist, for there is none: agents may read what is mounted there,
/// and write nowhere.
pub fn allow_command(path: &Path, mounts: &[&AdditionalMount]) -> String {
    let folder = path.parent().map(word).unwrap_or_default();
    let roots: Vec<_> =
        mounts.iter().map(|mount| serde_json::json!({"path": mount.host_path})).collect();
    let list = serde_json::json!({"allowedRoots": roots}).to_string().replace('\'', r"'\''");
    format!("mkdir -p {folder} && printf '%s' '{list}' > {}", word(path))
}

/// A path as one word of a shell's line; `~` for the user's own folder where that needs no quotes.
pub(super) fn word(path: &Path) -> String {
    let is_plain = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%:,".contains(&byte);
        text.bytes().all(plain)
    };
    let text = path.to_string_lossy();
    let below = env::home_dir().and_then(|own| Some(path.strip_prefix(own).ok()?.to_owned()));
    match below.as_deref().and_then(Path::to_str) {
        Some(below) if !below.is_empty() && is_plain(below) => format!("~/{below}"),
        _ if is_plain(&text) && !text.is_empty() => text.into_owned(),
        _ => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!("/a/b-c_d.e", word(Path::new("/a/b-c_d.e")));
        assert_eq!("'/a b/$(x)'", word(Path::new("/a b/$(x)")));
        assert_eq!(r"'/it'\''s'", word(Path::new("/it's")));
        assert_eq!("''", word(Path::new("")));
    }
}
