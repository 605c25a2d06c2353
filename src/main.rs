//! The `tripline` binary: parses the command line and runs one command.

use std::process::ExitCode;

use clap::Parser;
use tripline::cli::{
    Cli, Command, alerts, archive, completions, demo, doctor, explain, healthcheck, migrate, offsets, reprocess, run,
};
use tripline::failure::Exit;
use tripline::telemetry::printable_lines;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tripline::kafka::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let ended = runtime.block_on(async {
        match &cli.command {
            Command::Demo(args) => demo::demo(args).await,
            Command::Run(args) => run::run(args).await,
            Command::Reprocess(args) => reprocess::reprocess(args).await,
            Command::Migrate(args) => migrate::migrate(args).await,
            Command::Alerts(args) => alerts::alerts(args).await,
            Command::Explain(args) => explain::explain(args).await,
            Command::Archive(args) => archive::archive(args).await,
            Command::Offsets(args) => offsets::offsets(args).await,
            Command::Doctor(args) => doctor::doctor(args).await,
            Command::Healthcheck(args) => healthcheck::healthcheck(args).await,
            Command::Completions(args) => completions::completions(args),
            Command::Man(args) => completions::man(args),
        }
    });
    // A call into librdkafka may still hang on an unreachable broker. The protocol makes it safe to abandon it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            eprintln!("error: {}", printable_lines(&failure.message));
            ExitCode::from(failure.exit.code())
        }
    }
}
