//! What the sources and their dependencies must be, whatever they do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{entries, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(args: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root()).args(args).args(["--locked", "--offline"]);
    run(command, b"").ok()
}

/// Runtimes that would bring a scheduler of their own.
const RUNTIMES: [&str; 9] = [
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "async-global-executor",
    "futures-executor",
    "embassy-executor",
    "monoio",
    "glommio",
];

#[test]
fn no_async_runtime_in_the_normal_tree() {
    for features in [&["--all-features"][..], &["--no-default-features"], &[]] {
        let mut args = vec!["tree", "--edges", "normal", "--workspace", "--prefix", "none"];
        args.extend(["--target", "all"]);
        args.extend(features);
        let tree = cargo(&args);
        assert!(tree.contains("rusqlite v"), "this is the tree: {tree}");
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            assert!(!RUNTIMES.contains(&name), "{line}");
        }
    }
}

/// Licences under which a part may come into the program.
const LICENCES: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Parts that must not come in by any way.
const BANNED: [&str; 4] = ["openssl", "openssl-sys", "native-tls", "libssh2-sys"];

#[test]
fn licences_and_banned_crates() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    assert!(50 < packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        assert!(!BANNED.contains(&name) && !RUNTIMES.contains(&name), "{name} is banned");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} has none"));
        assert!(is_allowed(licence), "{name}: {licence}");
    }
}

/// `wacore-libsignal` calls itself MIT, but files of it are marked AGPL-3.0-only.
#[test]
fn without_whatsapp_nothing_is_under_agpl_and_with_it_we_say_so() {
    let tree = |features: &[&str]| {
        let mut args = vec!["tree", "--edges", "normal", "--package", "rust-claw"];
        args.extend(features);
        cargo(&args)
    };
    assert!(tree(&[]).contains("wacore-libsignal v"));
    let without = tree(&["--no-default-features"]);
    assert!(without.contains("rusqlite v") && !without.contains("wacore"), "{without}");
    for file in ["LICENSE", "README.md"] {
        let text = fs::read_to_string(root().join(file)).expect("a file");
        assert!(text.contains("AGPL") || text.contains("GNU Affero"), "{file}");
    }
}

/// Whether an expression of licences can be met with those allowed. Source: SPDX, annex D, of
/// which packages use `AND`, `OR`, `/` for `OR`, and brackets around an `OR`.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((before, rest)) = expression.split_once('(') {
        let (inner, after) = rest.split_once(')').expect("brackets are closed");
        let inner = if is_allowed(inner) { "MIT" } else { "none" };
        return is_allowed(&format!("{before}{inner}{after}"));
    }
    let known = |licence: &str| LICENCES.contains(&licence.trim());
    // `AND` binds closer.
    expression.split(" OR ").any(|all| all.split(" AND ").all(known))
}

#[test]
fn expressions_of_licences_are_understood() {
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-2.0) AND ISC"] {
        assert!(is_allowed(good), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT", ""] {
        assert!(!is_allowed(bad), "{bad}");
    }
}

/// All sources below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found
}

/// The part of a source that is in the program: without tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(root()).expect("it is ours").to_string_lossy().into_owned();
    path.contains("tests") || path.contains("fakes") || path.contains("oracle")
}

/// Calls that look at a path with all its links, or make something there.
const BY_PATH: [&str; 8] = [
    "fs::",
    "File::",
    "OpenOptions",
    "DirBuilder",
    ".is_file()",
    ".is_dir()",
    ".exists()",
    "read_dir",
];

/// Modules that touch files by path, each with what it touches. None of it can be written by a
/// sandbox; all that can goes through `boundary`.
const HOST_ONLY: [(&str, &str); 37] = [
    ("backup.rs", "the file that a person names, data/copy-… and data/moving"),
    ("boundary.rs", "the one way into what a sandbox can write"),
    ("boundary/rejected.rs", "its errors"),
    ("build.rs", "a script for the linker, where cargo wants it"),
    ("boundary/walk.rs", "a part of it"),
    ("agent/mod.rs", "the runner beside our own program"),
    ("channel/whatsapp/session.rs", "the database of WhatsApp's keys"),
    ("cli/pair.rs", "the picture that a person names"),
    ("cli/logs.rs", "the log of the program"),
    ("cli/mounts.rs", "a file that a person names"),
    ("cli/run.rs", "the log of the program"),
    ("cli/service.rs", "the user's service manager's files"),
    ("cli/setup.rs", "the runner beside our own program"),
    ("cli/tasks.rs", "a file that a person names"),
    ("config/dotenv.rs", "the file .env"),
    ("credentials/proxy.rs", "the folder of the proxy's socket"),
    ("credentials/upstream.rs", "the certificates of the host"),
    ("doctor/host.rs", "the home itself, .env and store/"),
    ("doctor/mod.rs", "the home itself and the database"),
    ("doctor/model.rs", "the login of the Claude Code CLI on the host"),
    ("doctor/sandbox.rs", "the home itself"),
    ("doctor/service.rs", "the user's service manager's files"),
    ("doorbell.rs", "the bells in store/"),
    ("home.rs", "the home and the parents of the groups' folders"),
    ("home/lock.rs", "the lock in store/"),
    ("import/mod.rs", "/proc"),
    ("ipc/quarantine.rs", "data/ipc/errors, which no sandbox has"),
    ("moving.rs", "data/moving; what a sandbox could write is renamed whole"),
    ("sandbox/allowlist.rs", "the list in the user's configuration"),
    ("sandbox/engine.rs", "the engines' programs"),
    ("sandbox/mounts.rs", "paths that the allowlist names"),
    ("sandbox/run_log.rs", "files that are open already"),
    ("sandbox/runtime/mod.rs", "the links in the host's root"),
    ("sandbox/runtime/bwrap.rs", "the host's /proc and data/identity"),
    ("store/nanoclaw.rs", "what lies beside a database of NanoClaw"),
    ("store/open.rs", "the database"),
    ("store/shared.rs", "its log"),
];

#[test]
fn h50_only_boundary_opens_sandbox_writable_trees() {
    let src = root().join("src");
    let mut by_path = Vec::new();
    for path in sources(&src).iter().filter(|path| !is_test(path)) {
        let code = code(path);
        let name = path.strip_prefix(&src).expect("it is below").to_string_lossy().into_owned();
        if BY_PATH.iter().any(|call| code.contains(call)) {
            by_path.push(name.clone());
        }
        if name == "boundary.rs" {
            continue;
        }
        // A path below a tree that a sandbox can write is made for a mount, for a text, or to be
        // given to `boundary` as the place to begin; never for a call of the file system.
        let trees = [".group(", ".group_logs(", ".claude_config(", ".ipc(", ".global()"];
        for statement in code.split([';', '{', '}']) {
            let names_tree = trees.iter().any(|tree| statement.contains(tree));
            let opens =
                ["fs::read", "fs::write", "fs::create", "fs::remove", "File::", "read_dir("]
                    .iter()
                    .any(|call| statement.contains(call));
            assert!(!(names_tree && opens), "{name}: {statement}");
        }
    }
    by_path.retain(|name| HOST_ONLY.iter().all(|(known, _)| known != name));
    assert!(
        by_path.is_empty(),
        "{by_path:?} touch files by path: go through `boundary`, or say here what it is that no \
         sandbox can write"
    );
}

#[test]
fn only_the_command_line_prints_and_only_the_store_speaks_sql() {
    let src = root().join("src");
    for path in sources(&src).iter().filter(|path| !is_test(path)) {
        let code = code(path);
        let name = path.strip_prefix(&src).expect("it is below").to_string_lossy().into_owned();
        // What a build script says, it says to cargo.
        if !name.starts_with("cli/") && name != "build.rs" {
            for call in ["io::stdout", "println!", "print!("] {
                assert!(!code.contains(call), "{name}: {call}");
            }
        }
        // WhatsApp's keys are a database of their own.
        if !name.starts_with("store/") && !name.starts_with("channel/whatsapp/keys/") {
            for call in ["Connection::open", "prepare_cached", "execute_batch"] {
                assert!(!code.contains(call), "{name}: {call}");
            }
        }
    }
}
