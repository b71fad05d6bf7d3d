//! How the leader and its readers fare in large meshes.
//!
//! | work | way | figures |
//! | --- | --- | --- |
//! | `scale/first load` | `10,000 x 10` (services, endpoints of each; all are subscribed), `10,000 x 10, one wanted` (as a pod has it) | `leader_cpu_ns`, `peak_kib`, `steady_private_kib`, `steady_heap_kib`, `image_bytes`, `run_dir_bytes`, `largest_message_bytes`, `sent_bytes`, `publish_ns` (from the last byte to the image) |
//! | `scale/first use` | the same | `p50_ns`, `max_ns` (from a push to the first connection at the new endpoint), `count` |
//! | `scale/churn` | `1,000 a second in 10 pushes`, `10 a second in 10 pushes`, .., each also `.., one wanted` | `leader_cores`, `publishes_per_second`, `reads_per_second`, `retry_share` (reads that had to be repeated), `private_kib` |
//! | `scale/processes` | `1`, `10`, `200` (programs with an open connection) | `leader_private_kib`, `leader_cores` (nothing changes), `program_private_kib`, `first_use_ns` |
//! | `scale/program` | `never connects`, `reader of 1,000 services`, each also `.., without ldmesh` | `private_kib` |
//! | `scale/1,000 short programs` | `one leader`, `a stream of each` (measured with 20) | `streams`, `sent_bytes`, `received_bytes` |

mod image;
mod pod;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Effort;
use crate::results::{Figures, Results};
use image::Readers;
use pod::{Lives, Scene};

/// Where a program connects to: the first service of the mesh.
const SERVICE: &str = "10.96.0.1:80";

/// Services and endpoints of each.
#[derive(Clone, Copy)]
struct Size(usize, usize);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let services = match self.0 {
            0..1_000 => self.0.to_string(),
            many => format!("{},{:03}", many / 1_000, many % 1_000),
        };
        write!(f, "{services} x {}", self.1)
    }
}

/// Measures all of it.
pub fn measure(effort: Effort) -> Result<Results> {
    let mut results = Results::default();
    let (sizes, rounds): (&[Size], u32) = match effort {
        Effort::Full => (&[Size(100, 10), Size(1_000, 10), Size(1_000, 100), Size(10_000, 10)], 3),
        Effort::Quick => (&[Size(100, 10)], 1),
    };
    let largest = *sizes.last().context("no size")?;
    for round in 0..rounds {
        for size in sizes {
            results.add("scale/first load", &size.to_string(), round, first_load(*size, true)?);
        }
        results.add("scale/first load", &format!("{largest}, one wanted"), round, first_load(largest, false)?);
    }
    for (everything, wanted) in [(true, ""), (false, ", one wanted")] {
        let scene = Scene::of(largest.0, largest.1, everything)?;
        let held = scene.programs(1)?;
        scene.settle();
        results.add("scale/first use", &format!("{largest}{wanted}"), 0, first_use(&scene, effort)?);
        churn(&scene, wanted, effort, &mut results)?;
        drop(held);
        if everything {
            processes(&scene, effort, &mut results)?;
        }
    }
    programs(effort, &mut results)?;
    short_programs(effort, &mut results)?;
    Ok(results)
}

/// A leader from its start until nothing changes any more.
fn first_load(Size(services, endpoints): Size, everything: bool) -> Result<Figures> {
    let mut scene = Scene::of(services, endpoints, everything)?;
    let watch = scene.watch_first_publish();
    let held = scene.programs(1)?;
    let published = watch.join().ok().flatten().context("nothing was published")?;
    let books = scene.ask("books")?;
    scene.settle();
    let leader = scene.leader()?;
    let kib = |field: &str| leader.status(field)?.split_whitespace().next()?.parse::<f64>().ok();
    let figure = |name: &str| books[name].as_f64().context("a figure is missing");
    let mut figures = Figures::from([
        ("leader_cpu_ns".into(), leader.processor_nanoseconds() as f64),
        ("peak_kib".into(), kib("VmHWM").context("no peak")?),
        ("steady_private_kib".into(), leader.private_kib().context("no memory")? as f64),
        ("steady_heap_kib".into(), kib("RssAnon").context("no heap")?),
        ("image_bytes".into(), scene.image()?.content_bytes() as f64),
        ("run_dir_bytes".into(), scene.run_dir_bytes() as f64),
        ("largest_message_bytes".into(), figure("largest_message_bytes")?),
        ("sent_bytes".into(), figure("sent_bytes")?),
    ]);
    // What is wanted later comes after the first image.
    if everything {
        figures.insert("publish_ns".into(), published as f64 - figure("last_write_ns")?);
    }
    drop(held);
    Ok(figures)
}

/// Endpoints that are replaced one by one, under a program that connects all the time.
fn first_use(scene: &Scene, effort: Effort) -> Result<Figures> {
    let changes = if effort == Effort::Full { 51 } else { 3 };
    let _prober = scene.prober();
    let mut took = Vec::new();
    for _ in 0..changes {
        std::thread::sleep(Duration::from_millis(60));
        took.push(scene.ask("move 0")?["first_use_ns"].as_f64().context("no time")?);
    }
    took.sort_by(f64::total_cmp);
    let of = |rank: usize| took.get(rank).copied().unwrap_or_default();
    Ok([("p50_ns".into(), of(changes / 2)), ("max_ns".into(), of(changes - 1)), ("count".into(), changes as f64)]
        .into())
}

/// Endpoints that are replaced all the time, under a reader.
fn churn(scene: &Scene, wanted: &str, effort: Effort, results: &mut Results) -> Result<()> {
    // istiod gathers changes for 100 ms; one push for each change is harder.
    for (changes, pushes) in [(1, 1), (1, 10), (10, 10), (100, 10), (1, 50)] {
        let millis = if effort == Effort::Full { 5_000 } else { 300 };
        let leader = scene.leader()?;
        let readers = Readers::start(scene.image()?, SERVICE.parse()?);
        let (cpu, generation, start) = (leader.processor_nanoseconds(), scene.image()?.generation(), Instant::now());
        scene.ask(&format!("churn {changes} {pushes} {millis}"))?;
        let seconds = start.elapsed().as_secs_f64();
        let used = leader.processor_nanoseconds() - cpu;
        let generations = scene.image()?.generation() - generation;
        let reads = readers.stop();
        let figures = Figures::from([
            ("leader_cores".into(), used as f64 / 1e9 / seconds),
            ("publishes_per_second".into(), generations as f64 / seconds),
            ("reads_per_second".into(), reads.reads as f64 / seconds),
            ("retry_share".into(), reads.repeated as f64 / reads.reads.max(1) as f64),
            ("private_kib".into(), leader.private_kib().context("no memory")? as f64),
        ]);
        let way = match changes * pushes {
            1_000 => "1,000 a second in 10 pushes".to_owned(),
            rate => format!("{rate} a second in {pushes} pushes"),
        };
        results.add("scale/churn", &format!("{way}{wanted}"), 0, figures);
        scene.settle();
    }
    Ok(())
}

/// Programs that have the library, and one connection each.
fn processes(scene: &Scene, effort: Effort, results: &mut Results) -> Result<()> {
    let counts: &[usize] = if effort == Effort::Full { &[1, 10, 200] } else { &[1, 10] };
    for count in counts {
        let programs = scene.programs(*count)?;
        scene.settle();
        let leader = scene.leader()?;
        let (cpu, start) = (leader.processor_nanoseconds(), Instant::now());
        std::thread::sleep(Duration::from_millis(if effort == Effort::Full { 5_000 } else { 500 }));
        let cores = (leader.processor_nanoseconds() - cpu) as f64 / 1e9 / start.elapsed().as_secs_f64();
        let program = programs.first().context("no program")?.process();
        let figures = Figures::from([
            ("leader_private_kib".into(), leader.private_kib().context("no memory")? as f64),
            ("leader_cores".into(), cores),
            ("program_private_kib".into(), program.private_kib().context("no memory")? as f64),
            ("first_use_ns".into(), first_use(scene, Effort::Quick)?["p50_ns"]),
        ]);
        results.add("scale/processes", &count.to_string(), 0, figures);
    }
    Ok(())
}

/// What a program has of its own for being in the mesh.
fn programs(effort: Effort, results: &mut Results) -> Result<()> {
    let services = if effort == Effort::Full { 1_000 } else { 100 };
    let scene = Scene::of(services, 10, true)?;
    let leads = scene.programs(1)?;
    scene.settle();
    for (life, name) in [(Lives::Idle, "never connects"), (Lives::Connected, "reader of 1,000 services")] {
        for meshed in [true, false] {
            let program = scene.program(life, meshed)?;
            let figures = [("private_kib".into(), program.process().private_kib().context("no memory")? as f64)];
            let without = if meshed { "" } else { ", without ldmesh" };
            results.add("scale/program", &format!("{name}{without}"), 0, figures.into());
        }
    }
    drop(leads);
    Ok(())
}

/// What a control plane has of programs like curl.
fn short_programs(effort: Effort, results: &mut Results) -> Result<()> {
    let (count, own) = if effort == Effort::Full { (1_000, 20) } else { (20, 3) };
    let services = if effort == Effort::Full { 1_000 } else { 100 };
    for (way, runs, leads_itself) in [("one leader", count, false), ("a stream of each", own, true)] {
        let scene = Scene::of(services, 10, false)?;
        for nth in 0..runs {
            scene.short_program(leads_itself.then_some(nth))?;
        }
        let books = scene.ask("books")?;
        // A first load is like any other: a thousand of them are so many times one.
        let factor = if leads_itself { count as f64 / f64::from(runs) } else { 1.0 };
        let figures = ["streams", "sent_bytes", "received_bytes"].into_iter();
        let figures = figures.map(|name| Some((name.to_owned(), books[name].as_f64()? * factor)));
        results.add("scale/1,000 short programs", way, 0, figures.collect::<Option<_>>().context("no books")?);
    }
    Ok(())
}
