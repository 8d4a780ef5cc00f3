//! The subcommands: one file per family. The only place that prints.

#![expect(clippy::doc_markdown, reason = "the docs of arguments are their help texts")]

mod ask;
mod backup;
mod chat;
mod completions;
mod dead_letters;
mod doctor;
mod group_config;
mod groups;
mod import;
mod input;
mod logs;
mod mounts;
mod out;
#[cfg(feature = "whatsapp")]
mod pair;
#[cfg(feature = "whatsapp")]
mod qr;
mod run;
mod run_task;
mod script;
mod serve;
mod service;
mod setup;
mod status;
mod talk;
mod tasks;
mod usage;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::config::{self, Settings};
use crate::daemon::Fatal;
use crate::home::{Home, HomeError, LockError};
use crate::ids;
use crate::store::{self, Store, TaskError};

/// A personal Claude assistant: a message arrives, an agent answers it in a sandbox of its own.
#[derive(FromArgs, ArgsInfo)]
struct Arguments {
    /// home folder (else $RUST_CLAW_HOME, else ~/.rust-claw)
    #[argh(option, arg_name = "dir")]
    home: Option<PathBuf>,
    /// print the version and exit
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Command {
    Run(run::RunCommand),
    Chat(chat::ChatCommand),
    Ask(ask::AskCommand),
    Setup(setup::SetupCommand),
    Doctor(doctor::DoctorCommand),
    InstallService(service::InstallCommand),
    UninstallService(service::UninstallCommand),
    Status(status::StatusCommand),
    Why(why::WhyCommand),
    Logs(logs::LogsCommand),
    Retry(dead_letters::RetryCommand),
    Drop(dead_letters::DropCommand),
    RegisterGroup(groups::RegisterCommand),
    UnregisterGroup(groups::UnregisterCommand),
    ListGroups(groups::ListCommand),
    CheckMounts(mounts::CheckCommand),
    SetMounts(mounts::SetCommand),
    SetSenders(group_config::SendersCommand),
    SetLimits(group_config::LimitsCommand),
    Usage(usage::UsageCommand),
    Inject(script::InjectCommand),
    Outbox(script::OutboxCommand),
    ScheduleTask(tasks::ScheduleCommand),
    UpdateTask(tasks::UpdateCommand),
    PauseTask(tasks::PauseCommand),
    ResumeTask(tasks::ResumeCommand),
    CancelTask(tasks::CancelCommand),
    ListTasks(tasks::ListCommand),
    ShowTask(tasks::ShowCommand),
    RunTask(run_task::RunTaskCommand),
    RunDue(run_task::RunDueCommand),
    Import(import::ImportCommand),
    Backup(backup::BackupCommand),
    Restore(backup::RestoreCommand),
    Completions(completions::CompletionsCommand),
    #[cfg(feature = "whatsapp")]
    Pair(pair::PairCommand),
    #[cfg(feature = "whatsapp")]
    Unpair(pair::UnpairCommand),
    #[cfg(feature = "whatsapp")]
    Reconnect(pair::ReconnectCommand),
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The program's daemon cannot start or go on.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The settings hold a value that cannot be used.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The home folder is not usable.
    #[error("cannot use the home folder")]
    Home(#[from] HomeError),
    /// The home folder is served by somebody else, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database refused.
    #[error("cannot use the database")]
    Store(#[from] store::Error),
    /// A name on the command line is not one.
    #[error(transparent)]
    Invalid(#[from] ids::Invalid),
    /// The tasks stay as they are.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Refused, with the reason and the next command.
    #[error("{0}")]
    Refused(String),
    /// Not now.
    #[error("{0}")]
    TryAgain(String),
    /// A signal asked us to end.
    #[error("interrupted")]
    Interrupted,
    /// Our own output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// What we are given to read cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] std::io::Error),
}

impl Error {
    fn exit_code(&self) -> ExitCode {
        match self {
            Error::Fatal(fatal) => fatal.exit_code(),
            Error::Config(_)
            | Error::Home(_)
            | Error::Store(store::Error::SchemaTooNew { .. } | store::Error::Foreign { .. }) => {
                ExitCode::from(78)
            }
            Error::Store(_)
            | Error::Lock(_)
            | Error::TryAgain(_)
            | Error::Task(TaskError::Store(_) | TaskError::Running { .. }) => ExitCode::from(75),
            // As a shell says it of SIGINT.
            Error::Interrupted => ExitCode::from(130),
            Error::Task(_)
            | Error::Invalid(_)
            | Error::Refused(_)
            | Error::Output(_)
            | Error::Input(_) => ExitCode::from(1),
        }
    }
}

/// Reads the arguments, does what they say.
pub fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    if arguments.version {
        return finish(out::line(&format!("rust-claw {}", env!("CARGO_PKG_VERSION"))));
    }
    let Some(command) = arguments.command else {
        out::complain("no command: `rust-claw chat` talks, `rust-claw --help` lists the rest");
        return ExitCode::from(1);
    };
    let home = match Home::resolve(arguments.home.as_deref()) {
        Ok(home) => home,
        Err(error) => return finish(Err(error.into())),
    };
    match command {
        Command::Run(run::RunCommand {}) => finish(run::run(&home)),
        Command::Chat(command) => finish(command.run(&home)),
        Command::Ask(command) => code(command.run(&home)),
        Command::Setup(command) => finish(command.run(&home)),
        Command::Doctor(command) => code(command.run(&home)),
        Command::InstallService(command) => finish(command.run(&home)),
        Command::UninstallService(service::UninstallCommand {}) => {
            finish(service::uninstall(&home))
        }
        Command::Status(command) => finish(command.run(&home)),
        Command::Why(command) => finish(command.run(&home)),
        Command::Logs(command) => finish(command.run(&home)),
        Command::Retry(command) => finish(command.run(&home)),
        Command::Drop(command) => finish(command.run(&home)),
        Command::RegisterGroup(command) => finish(command.run(&home)),
        Command::UnregisterGroup(command) => finish(command.run(&home)),
        Command::ListGroups(command) => finish(command.run(&home)),
        Command::CheckMounts(command) => finish(command.run(&home)),
        Command::SetMounts(command) => finish(command.run(&home)),
        Command::SetSenders(command) => finish(command.run(&home)),
        Command::SetLimits(command) => finish(command.run(&home)),
        Command::Usage(command) => finish(command.run(&home)),
        Command::Inject(script::InjectCommand {}) => code(script::inject(&home)),
        Command::Outbox(command) => finish(command.run(&home)),
        Command::ScheduleTask(command) => finish(command.run(&home)),
        Command::UpdateTask(command) => finish(command.run(&home)),
        Command::PauseTask(command) => finish(command.run(&home)),
        Command::ResumeTask(command) => finish(command.run(&home)),
        Command::CancelTask(command) => finish(command.run(&home)),
        Command::ListTasks(command) => finish(command.run(&home)),
        Command::ShowTask(command) => finish(command.run(&home)),
        Command::RunTask(command) => code(command.run(&home)),
        Command::RunDue(command) => code(command.run(&home)),
        Command::Import(command) => finish(command.run(&home)),
        Command::Backup(command) => finish(command.run(&home)),
        Command::Restore(command) => finish(command.run(&home)),
        Command::Completions(command) => finish(command.run()),
        #[cfg(feature = "whatsapp")]
        Command::Pair(command) => finish(command.run(&home)),
        #[cfg(feature = "whatsapp")]
        Command::Unpair(pair::UnpairCommand {}) => finish(pair::unpair(&home)),
        #[cfg(feature = "whatsapp")]
        Command::Reconnect(pair::ReconnectCommand {}) => finish(pair::reconnect(&home)),
    }
}

fn code(done: Result<ExitCode, Error>) -> ExitCode {
    done.unwrap_or_else(|error| finish(Err(error)))
}

fn finish(done: Result<(), Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has what they wanted: `rust-claw status | head -1`.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            out::complain(&crate::chain(&error));
            error.exit_code()
        }
    }
}

/// The settings of `home`, from the process's environment and the home's `.env`.
fn settings(home: &Home) -> Result<Settings, Error> {
    Ok(Settings::load(home, |name| std::env::var(name).ok())?)
}

/// The folders and the database of `home`, made where they are not there yet.
fn store(home: &Home) -> Result<Store, Error> {
    home.create()?;
    Ok(Store::open(&home.database())?)
}

/// The database with the group `main` in it, as every command that reads or changes groups finds
/// it after the first start.
fn store_with_main(home: &Home) -> Result<Store, Error> {
    let mut store = store(home)?;
    store.ensure_main_group(ids::UnixMs::now()).map_err(Fatal::from)?;
    Ok(store)
}
