//! How the cost of things grows with their number, in time and memory. What is counted rather
//! than timed is in `count` and in `cargo xtask pick-cost`.

use std::fs;
use std::hint::black_box;
use std::time::Instant as Moment;

use model::{Endpoint, EndpointId, Instant, Weight};

use crate::count::{Asked, routes, service};

pub(crate) fn run(_: &[String]) -> Result<(), String> {
    println!("| routes | build, ms | KiB | look-up, ns |\n|---|---|---|---|");
    for count in [1, 10, 100, 1000, 10_000, 100_000] {
        route(count)?;
    }
    println!(
        "\n| services of 10 endpoints | all made, ms | KiB | one endpoint more, us | one weight, us |\n|---|---|---|---|---|"
    );
    for count in [10, 100, 1000, 10_000] {
        services(count)?;
    }
    Ok(())
}

fn route(count: u64) -> Result<(), String> {
    const FINDS: u32 = 20_000;
    let specs = routes(count);
    let before = resident_kib();
    let start = Moment::now();
    let table = route::Table::build(&specs).map_err(|e| e.to_string())?;
    let built = start.elapsed();
    let grown = resident_kib().saturating_sub(before);
    let asked: Vec<Asked> = (0..1000)
        .map(|n| n * 7919 % count)
        .map(|index| Asked {
            host: format!("host{}.example.com", index / 10),
            path: format!("/area{}/things/4711", index % 10),
        })
        .collect();
    let start = Moment::now();
    for one in asked.iter().cycle().take(FINDS as usize) {
        if black_box(table.find(black_box(one))).is_none() {
            return Err(format!("no route of {count}"));
        }
    }
    let find = start.elapsed() / FINDS;
    println!("| {count} | {:.2} | {grown} | {} |", ms(built), find.as_nanos());
    Ok(())
}

fn services(count: u64) -> Result<(), String> {
    let before = resident_kib();
    let start = Moment::now();
    let all: Vec<_> = (0..count).map(|n| service(&format!("service-{n}"), 10)).collect();
    let made = start.elapsed();
    let grown = resident_kib().saturating_sub(before);
    let one = &all[all.len() / 2];
    let now = Instant::ZERO + std::time::Duration::from_secs(1);
    let endpoint = |n: u8| Endpoint {
        id: EndpointId::from(format!("new-{n}").as_str()),
        ..Endpoint::at(std::net::SocketAddr::from(([10, 1, 0, n], 80)))
    };
    let start = Moment::now();
    one.set_endpoints((0..11).map(endpoint).collect(), now);
    let changed = start.elapsed();
    let start = Moment::now();
    let weighed = one.set_weight("new-3", Some(Weight(7)), now);
    let weight = start.elapsed();
    weighed.map_err(|e| format!("{e:?}"))?;
    println!(
        "| {count} | {:.1} | {grown} | {} | {} |",
        ms(made),
        changed.as_micros(),
        weight.as_micros()
    );
    Ok(())
}

fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Resident anonymous memory of this process.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
