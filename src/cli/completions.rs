//! `completions`: for shells, made from what the commands say of themselves.

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs};

use super::{Arguments, Error, out};

/// Print completions for a shell: bash, zsh or fish.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "rust-claw completions bash > ~/.local/share/bash-completion/completions/rust-claw"
)]
pub(super) struct CompletionsCommand {
    /// bash, zsh or fish
    #[argh(positional)]
    shell: String,
}

impl CompletionsCommand {
    /// # Errors
    /// A shell that is none of them.
    pub(super) fn run(self) -> Result<(), Error> {
        let program = Arguments::get_args_info();
        let text = match self.shell.as_str() {
            "bash" => bash(&program),
            "zsh" => zsh(&program),
            "fish" => fish(&program),
            other => {
                let other = out::harmless(other);
                return Err(Error::Refused(format!("shell `{other}`: allowed: bash, zsh, fish")));
            }
        };
        out::line(text.trim_end())
    }
}

/// The names of all commands.
pub(super) fn names(program: &CommandInfoWithArgs) -> Vec<String> {
    program.commands.iter().map(|command| command.name.to_owned()).collect()
}

fn flags(command: &CommandInfoWithArgs) -> Vec<&'static str> {
    command.flags.iter().map(|flag| flag.long).collect()
}

fn bash(program: &CommandInfoWithArgs) -> String {
    let mut cases = String::new();
    for command in &program.commands {
        let words = flags(&command.command).join(" ");
        cases.push_str(&format!("    {}) words='{words}' ;;\n", command.name));
    }
    let own = flags(program).join(" ");
    let commands = names(program).join(" ");
    format!(
        "_rust_claw() {{\n  local command='' words word i\n  \
         for ((i = 1; i < COMP_CWORD; i++)); do\n    word=${{COMP_WORDS[i]}}\n    \
         case $word in\n      --home) ((i++)) ;;\n      -*) ;;\n      *) command=$word; break ;;\n    \
         esac\n  done\n  case $command in\n    '') words='{own} {commands}' ;;\n{cases}    \
         *) words='' ;;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n\
         }}\ncomplete -o default -F _rust_claw rust-claw\n"
    )
}

fn zsh(program: &CommandInfoWithArgs) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace(':', "\\:");
        text.replace('[', "(").replace(']', ")").replace('\'', "'\\''")
    };
    let flag = |flag: &FlagInfo| {
        let value = match flag.kind {
            FlagInfoKind::Switch => String::new(),
            FlagInfoKind::Option { arg_name } => format!(":{}:_files", quoted(arg_name)),
        };
        format!("'{}[{}]{value}'", flag.long, quoted(flag.description))
    };
    let mut commands = String::new();
    let mut cases = String::new();
    for command in &program.commands {
        let (name, info) = (command.name, &command.command);
        commands.push_str(&format!("      '{name}:{}'\n", quoted(info.description)));
        let flags: Vec<String> = info.flags.iter().map(flag).collect();
        let flags = flags.join(" ");
        cases.push_str(&format!("      {name}) _arguments {flags} '*:file:_files' ;;\n"));
    }
    let own: Vec<String> = program.flags.iter().map(flag).collect();
    let own = own.join(" ");
    format!(
        "#compdef rust-claw\n_rust_claw() {{\n  local state line\n  \
         _arguments -C {own} '1: :->command' '*:: :->rest'\n  case $state in\n  command)\n    \
         local -a commands=(\n{commands}    )\n    _describe command commands ;;\n  rest)\n    \
         case $line[1] in\n{cases}    esac ;;\n  esac\n}}\n_rust_claw \"$@\"\n"
    )
}

fn fish(program: &CommandInfoWithArgs) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let flag = |flag: &FlagInfo| {
        let takes = if matches!(flag.kind, FlagInfoKind::Switch) { "" } else { " -r" };
        let long = flag.long.trim_start_matches('-');
        format!("-l {long}{takes} -d {}", quoted(flag.description))
    };
    let mut text = String::new();
    for own in program.flags {
        text.push_str(&format!("complete -c rust-claw -n __fish_use_subcommand {}\n", flag(own)));
    }
    for command in &program.commands {
        let (name, about) = (command.name, quoted(command.command.description));
        text.push_str(&format!(
            "complete -c rust-claw -n __fish_use_subcommand -f -a {name} -d {about}\n"
        ));
        for of_it in command.command.flags {
            let flag = flag(of_it);
            text.push_str(&format!(
                "complete -c rust-claw -n '__fish_seen_subcommand_from {name}' {flag}\n"
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_and_flag_is_in_each_shells_text() {
        let program = Arguments::get_args_info();
        assert!(names(&program).contains(&"completions".to_owned()));
        for text in [bash(&program), zsh(&program), fish(&program)] {
            for command in &program.commands {
                assert!(text.contains(command.name), "{}", command.name);
                for flag in command.command.flags {
                    assert!(text.contains(flag.long.trim_start_matches('-')), "{}", flag.long);
                }
            }
        }
    }
}
