//! The `ringway` binary.

fn main() -> std::process::ExitCode {
    ringway_agent::cli::main()
}
