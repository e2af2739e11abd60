//! The `egress` binary.

fn main() -> std::process::ExitCode {
    egress_user::cli::main()
}
