//! `completions`: for shells, made from what the commands say of themselves.

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs, SubCommandInfo};

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

fn each(program: &CommandInfoWithArgs, text: impl Fn(&SubCommandInfo) -> String) -> String {
    program.commands.iter().map(text).collect::<Vec<_>>().concat()
}

fn flags(command: &CommandInfoWithArgs) -> Vec<&'static str> {
    command.flags.iter().map(|flag| flag.long).collect()
}

fn bash(program: &CommandInfoWithArgs) -> String {
    let cases = each(program, |command| {
        format!("    {}) words='{}' ;;\n", command.name, flags(&command.command).join(" "))
    });
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
    let commands = each(program, |command| {
        format!("      '{}:{}'\n", command.name, quoted(command.command.description))
    });
    let cases = each(program, |command| {
        let flags: Vec<String> = command.command.flags.iter().map(flag).collect();
        format!("      {}) _arguments {} '*:file:_files' ;;\n", command.name, flags.join(" "))
    });
    let own: Vec<String> = program.flags.iter().map(flag).collect();
    let own = own.join(" ");
    format!(
        "#compdef rust-claw\n_rust_claw() {{\n  local state line\n  \
         _arguments -C {own} '1: :->command' '*::: :->rest'\n  case $state in\n  command)\n    \
         local -a commands=(\n{commands}    )\n    _describe command commands ;;\n  rest)\n    \
         words=($line[1] \"${{words[@]}}\"); (( CURRENT += 1 ))\n    \
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
    let line = |when: &str, rest: &str| format!("complete -c rust-claw -n '{when}' {rest}\n");
    let own = program.flags.iter().map(|own| line("__fish_use_subcommand", &flag(own)));
    let commands = each(program, |command| {
        let name = command.name;
        let about = quoted(command.command.description);
        let seen = format!("__fish_seen_subcommand_from {name}");
        let flags = command.command.flags.iter().map(|of_it| line(&seen, &flag(of_it)));
        line("__fish_use_subcommand", &format!("-f -a {name} -d {about}"))
            + &flags.collect::<Vec<_>>().concat()
    });
    own.collect::<Vec<_>>().concat() + &commands
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
