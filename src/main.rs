//! Parses arguments, dispatches, sets the exit code.

fn main() -> std::process::ExitCode {
    phasebroker::cli::main()
}
