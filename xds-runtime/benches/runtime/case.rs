//! A benchmark that can be timed (criterion) and counted (callgrind).

use std::hint::black_box;

use criterion::{BatchSize, Bencher, Criterion, SamplingMode};

use crate::callgrind;

/// Times or counts the cases that it is given.
pub enum Runner {
    /// By criterion, with the arguments of `cargo bench`.
    Timed(Box<Criterion>),
    /// Once or a few times each, under callgrind.
    Counted,
}

/// How often a small case is counted: what a case varies from run to run evens out.
const SMALL_RUNS: u32 = 1000;
/// A large one does the same each time.
const LARGE_RUNS: u32 = 2;

impl Runner {
    /// What the command line asks for.
    pub fn of_arguments() -> Self {
        if std::env::args().any(|argument| argument == "--counted") {
            return Self::Counted;
        }
        Self::Timed(Box::new(Criterion::default().configure_from_args()))
    }

    /// A case of nanoseconds, which needs nothing anew each time.
    pub fn small<O>(&mut self, group: &str, name: &str, mut work: impl FnMut() -> O) {
        match self {
            Self::Timed(criterion) => {
                criterion
                    .benchmark_group(group)
                    .bench_function(name, |bencher: &mut Bencher<'_>| bencher.iter(&mut work));
            }
            Self::Counted => {
                // What is lazy is made.
                black_box(work());
                callgrind::zero();
                callgrind::counted(|| {
                    for _ in 0..SMALL_RUNS {
                        black_box(work());
                    }
                });
                callgrind::dump(&format!("{group}/{name} x{SMALL_RUNS}"));
            }
        }
    }

    /// A case of micro- or milliseconds. Neither making its input nor dropping its output is measured.
    pub fn large<I, O>(&mut self, group: &str, name: &str, mut input: impl FnMut() -> I, mut work: impl FnMut(I) -> O) {
        match self {
            Self::Timed(criterion) => {
                let mut group = criterion.benchmark_group(group);
                group.sample_size(20).sampling_mode(SamplingMode::Flat);
                group.bench_function(name, |bencher: &mut Bencher<'_>| {
                    bencher.iter_batched(&mut input, &mut work, BatchSize::PerIteration);
                });
            }
            Self::Counted => {
                drop(work(input()));
                callgrind::zero();
                for _ in 0..LARGE_RUNS {
                    let input = input();
                    drop(callgrind::counted(|| work(input)));
                }
                callgrind::dump(&format!("{group}/{name} x{LARGE_RUNS}"));
            }
        }
    }

    /// Says something that is not a time.
    pub fn note(&self, line: &str) {
        if let Self::Timed(_) = self {
            println!("{line}");
        }
    }

    /// Ends the run.
    pub fn finish(self) {
        if let Self::Timed(criterion) = self {
            criterion.final_summary();
        }
    }
}
