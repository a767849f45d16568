//! Texts that every command's help shares.

pub const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing to do
  1    a check failed: tests (mf test), deliveries (mf verify), requests (mf chaos), the stack (mf doctor), migrations
       (mf check), more waiting than allowed (mf events lag), an upgrade that was reverted or is held (mf upgrade), a
       part whose owner may not change, or whose attempt was undone (mf migrate)
  64   usage: an option, a service or an instance that does not exist
  69   unavailable: the stack does not run, or a port, a program or disk space is missing
  70   a part of the stack failed, or did not become ready in time
  73   the state folder (MF_HOME) cannot be written
  75   another mf command is changing this stack: try again
  78   the options contradict the settings that the stack was created with
  130  stopped by Ctrl-C";

/// Returns the end of a command's help: examples, then the exit codes.
pub fn examples(examples: &[&str]) -> String {
    format!("Examples:\n  {}\n\n{EXIT_CODES}", examples.join("\n  "))
}
