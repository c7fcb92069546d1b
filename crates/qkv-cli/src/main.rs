//! The program `qkv`. Thin: arguments, progress and output; what is done lives in `qkv-train`.

mod arguments;
mod bench;
mod commands;
mod demo;
mod embed;
mod explain;
mod measure;
mod progress;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use clap::error::ErrorKind;
use qkv::LargePages;

use arguments::{Arguments, Bench, Command};

/// Models and their data are read from anywhere in large buffers.
#[global_allocator]
static MEMORY: LargePages = LargePages;

/// What ends a command early: one line for the user, and the exit status.
#[derive(Debug)]
struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 1 }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 2 }
    }
}

impl From<qkv_train::Error> for Failure {
    fn from(error: qkv_train::Error) -> Self {
        Self { message: error.to_string(), status: error.exit_status() }
    }
}

fn main() -> ExitCode {
    match parse().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, status }) => {
            // Whoever reads standard error may have gone; that is no reason to panic.
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&message));
            ExitCode::from(status)
        }
    }
}

/// The arguments; help, where it is asked for, ends the program here.
fn parse() -> Result<Arguments, Failure> {
    Arguments::try_parse().map_err(|error| {
        if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            error.exit();
        }
        // What is wrong comes before the first empty line, what would be right behind it.
        let message = error.render().to_string();
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let lines: Vec<&str> = message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let tip = message.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let tip = tip.map_or(String::new(), |tip| format!("; {tip}"));
        Failure::usage(format!("{}{tip} (--help tells more)", lines.join(" ")))
    })
}

/// A message on one line, whatever a path in it holds.
fn one_line(message: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    message.chars().map(escape).collect()
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    qkv::Isa::from_env().map_err(|e| Failure::usage(e.to_string()))?;
    if let Some(threads) = arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global();
        pool.map_err(|e| Failure::new(format!("cannot start {threads} threads: {e}")))?;
    }
    // On a thread of the pool: from outside, each piece of work would be handed over, at some ten microseconds a time.
    rayon::scope(|_| dispatch(arguments.command))
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(options) => demo::demo(&options, stop_on_ctrl_c("stopping")?),
        Command::Train(options) if options.dry_run => commands::dry_run(&options),
        Command::Train(options) => commands::train(&options, stop_on_ctrl_c("stopping: what there is will be kept")?),
        Command::Evaluate(options) => commands::evaluate(&options),
        Command::Predict(options) => commands::predict(&options, stop_on_ctrl_c("stopping")?),
        Command::Embed(options) => embed::embed(&options, stop_on_ctrl_c("stopping")?),
        Command::Info(options) => commands::info(&options),
        Command::Bench(Bench::Attention(options)) => bench::attention(&options),
        Command::Bench(Bench::Train(options)) => bench::train(&options),
        Command::Bench(Bench::Graphs(options)) => bench::graphs(&options),
        Command::Explain(options) => explain::explain(&options),
    }
}

/// A flag that the first Ctrl-C raises, for commands that have something to bring to an end; the second ends the program
/// at once.
fn stop_on_ctrl_c(what_follows: &'static str) -> Result<&'static AtomicBool, Failure> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let _ = writeln!(std::io::stderr(), "\n{what_follows} (once more to end at once)");
    })
    .map_err(|e| Failure::new(format!("cannot listen for Ctrl-C: {e}")))?;
    Ok(&STOP)
}
