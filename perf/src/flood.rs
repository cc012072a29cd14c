//! Operations on many flows.

use std::io;
use std::process::{Command, exit};
use std::time::Instant;

use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;

use crate::Options;

/// What is done to the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// They are created.
    Create,
    /// Each gets another mark.
    Update,
    /// They are deleted.
    Delete,
    /// One after the other is created, marked and deleted, so that few exist at a time.
    Churn,
}

/// Does it in the namespace that the options name.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    if let Some(netns) = &options.netns {
        return inside(netns);
    }
    let flows = plain(options.first, options.flows);
    let mut kernel = Kernel::here();
    let rate = options.rate.unwrap_or(0);
    let begin = Instant::now();
    match options.operation {
        Operation::Create => kernel.create_at(&flows, rate),
        Operation::Update => {
            let updated: Vec<_> = flows.iter().map(|flow| marked(flow, options.rounds)).collect();
            kernel.update_at(&updated, rate);
        }
        Operation::Delete => kernel.delete_at(&flows, rate),
        Operation::Churn => {
            for block in flows.chunks(1000) {
                kernel.create_at(block, rate);
                let updated: Vec<_> = block.iter().map(|flow| marked(flow, 1)).collect();
                kernel.update_at(&updated, rate);
                kernel.delete_at(block, rate);
            }
        }
    }
    let spent = begin.elapsed().as_secs_f64();
    println!(
        "{:?}: {} flows in {spent:.2} s, {:.0} per second",
        options.operation,
        flows.len(),
        flows.len() as f64 / spent
    );
    Ok(())
}

/// Starts itself again in another namespace.
fn inside(netns: &str) -> io::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let place = arguments.iter().position(|a| a == "--netns");
    let rest = arguments.iter().enumerate().filter_map(|(index, argument)| {
        let named = place.is_some_and(|place| index == place || index == place + 1);
        (!named && !argument.to_string_lossy().starts_with("--netns=")).then_some(argument)
    });
    let status = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(rest)
        .status()?;
    exit(status.code().unwrap_or(1));
}
