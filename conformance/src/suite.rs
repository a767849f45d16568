//! A test harness that starts stacks before its cases and stops them afterwards.

use std::{future::Future, pin::Pin, process::ExitCode, sync::Arc};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::{client::Client, contract::Contract, stack::Stack};

/// The fixture of a case.
#[derive(Debug, Clone)]
pub struct World {
    pub client: Client,
    pub stack: Arc<Stack>,
}

type CaseFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A test case: a sentence about behaviour, and the function that checks it.
pub struct Case {
    pub name: &'static str,
    pub run: fn(World) -> CaseFuture,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Makes a list of cases from functions; the name of a function is the name of its case.
#[macro_export]
macro_rules! cases {
    ($($function:ident),* $(,)?) => {
        vec![$($crate::suite::Case { name: stringify!($function), run: |world| Box::pin($function(world)) }),*]
    };
}

/// Returns the cases for the stack of a name.
pub type Cases = fn(&str) -> Vec<Case>;

/// Runs `cases` against each stack that `start` starts, and prints results as the standard harness does.
///
/// Listing the tests starts no stack. A stack that does not start is reported as one failed test.
pub fn main(start: &[Start], cases: Cases) -> ExitCode {
    run(start, cases, CASES_AT_ONCE)
}

/// Runs one case after the other: for cases that stop processes which other cases need.
pub fn main_in_order(start: &[Start], cases: Cases) -> ExitCode {
    run(start, cases, 1)
}

/// The name of a stack, which is a prefix of its test names, and a function that starts it.
pub type Start = (&'static str, fn() -> Result<Stack>);

fn run(start: &[Start], cases: Cases, at_once: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    if arguments.list {
        let listed = start
            .iter()
            .flat_map(|(name, _)| cases(name).into_iter().map(move |case| format!("{name}::{}", case.name)));
        return libtest_mimic::run(&arguments, listed.map(|name| Trial::test(name, || Ok(()))).collect()).exit_code();
    }
    arguments.test_threads = arguments.test_threads.or(Some(at_once));
    let mut stacks = Vec::new();
    let mut trials = Vec::new();
    for (name, start) in start {
        match start().and_then(|stack| world(stack, &runtime)) {
            Ok(world) => {
                for case in cases(name) {
                    let (world, runtime) = (world.clone(), Arc::clone(&runtime));
                    trials.push(Trial::test(format!("{name}::{}", case.name), move || {
                        runtime.block_on((case.run)(world)).map_err(|error| Failed::from(format!("{error:#}")))
                    }));
                }
                stacks.push(world);
            }
            Err(error) => {
                trials.push(Trial::test(format!("{name}::starts"), move || Err(format!("{error:#}").into())));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        for world in &stacks {
            let logs = world
                .stack
                .mf(&["logs", "--lines", "60"])
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("--- last log lines of the {} stack ---\n{}", world.stack.stage.name(), logs.unwrap_or_default());
        }
    }
    drop(stacks);
    conclusion.exit_code()
}

/// The default of `--test-threads`; more than cores, because cases mostly wait for the stack.
const CASES_AT_ONCE: usize = 4;

fn world(stack: Stack, runtime: &Runtime) -> Result<World> {
    let _inside = runtime.enter();
    let client = Client::new(&stack.url(), Arc::new(Contract::load()?))?;
    Ok(World { client, stack: Arc::new(stack) })
}
