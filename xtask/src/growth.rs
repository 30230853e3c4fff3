//! How cost grows with the number of routes, services and endpoints: `docs/growth.md`.
//!
//! Times are of this machine as busy as it was; what a reader should look at is how they change
//! from row to row. Picks and look-ups are counted in instructions elsewhere (`pick-cost`,
//! `count`), where a machine's load does not show, and what must not grow is held by tests.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bench::process::{Process, raise_file_limit};
use crate::callgrind::{output, release};

const PAGE: &str = "docs/growth.md";
/// Of each service.
const ENDPOINTS: usize = 10;
const SERVICES: [usize; 4] = [10, 100, 1000, 10_000];
/// Of which the median counts.
const TIMES: usize = 5;

fn web() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 21_941))
}

fn admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 21_942))
}

pub(crate) fn run() -> Result<bool, String> {
    raise_file_limit();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let build = ["build", "--locked", "--release", "--package", "evenkeel", "--package", "bench"];
    output(Command::new("cargo").current_dir(&root).args(build))?;
    let folder = root.join("target/growth");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let bench = release(&root).join("bench");
    let program =
        Program { folder, program: release(&root).join("evenkeel"), bench: bench.clone() };
    let mut page = String::from(
        "# How cost grows\n\nWritten by `cargo xtask growth`. Times are of one machine, as busy as \
         it was; look at how they change from row to row. Instructions of a pick by the number of \
         endpoints are in [pick-cost.md](pick-cost.md).\n\n## Routes and services, in one process\n\n\
         `Table::find` among routes of which ten share a host; a service's endpoints changed \
         (`Service::set_endpoints`, `Service::set_weight`) beside so many others.\n\n",
    );
    page += &output(Command::new(&bench).arg("growth"))?;
    page += "\n## The whole program\n\nOne listener with a route for each service, ten endpoints \
             each, one worker. *Start*: from exec to `/readyz`. *A weight*: `PATCH` of one \
             endpoint. *Another endpoint*: a posted configuration that differs from the last in \
             one endpoint, of which only the service and its neighbours are read. *Another \
             route*: one that differs in a configured route, which is read as a whole. Of both, and \
             of a weight, the median, from the connection to the answer. *Scrape*: `/metrics`, the median. *Stalls*: the \
             99th percentile of requests at a fixed rate without and with scraping all the \
             time.\n\n| services | endpoints | start, ms | CPU, ms | MiB | a weight, ms | another \
             endpoint, ms | another route, ms | scrape, ms | its KiB | p99 without, us | with, us \
             |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for services in SERVICES {
        page += &program.measure(services)?;
    }
    println!("{page}");
    fs::write(root.join(PAGE), &page).map_err(|e| format!("{PAGE}: {e}"))?;
    Ok(true)
}

struct Program {
    folder: PathBuf,
    program: PathBuf,
    bench: PathBuf,
}

impl Program {
    fn measure(&self, services: usize) -> Result<String, String> {
        let file = self.folder.join("evenkeel.yaml");
        fs::write(&file, configuration(services, "", "")).map_err(|e| e.to_string())?;
        let words =
            [&*self.program.display().to_string(), "run", "-c", &file.display().to_string()]
                .map(str::to_owned);
        let log = self.folder.join("evenkeel.log");
        let start = Instant::now();
        let mut process = Process::start(&words, &log)?;
        process.wait_for(admin(), &log)?;
        while ask("GET", "/readyz", "").is_err() {
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("not ready: {}", fs::read_to_string(&log).unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let started = start.elapsed();
        let (cpu, memory) = (process.cpu(), process.memory_kib());
        let one = services / 2;
        let path = format!("/v1/services/s{one}/endpoints/{}", address(one, 0));
        let (weight, _) = median(|| ask("PATCH", &path, r#"{"weight": 7}"#))?;
        let endpoint = post(|n| configuration(services, "", &format!(", 127.0.0.9:{n}")))?;
        let route = post(|n| configuration(services, &format!("/answer/{n}"), ""))?;
        let (scrape, bytes) = median(|| ask("GET", "/metrics", ""))?;
        let without = self.load(None)?;
        let with = self.load(Some("/metrics"))?;
        Ok(format!(
            "| {services} | {} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {without} | {with} |\n",
            services * ENDPOINTS,
            ms(started),
            (cpu.user + cpu.system) * 1e3,
            memory as f64 / 1024.0,
            ms(weight),
            ms(endpoint),
            ms(route),
            ms(scrape),
            bytes >> 10,
        ))
    }

    /// The 99th percentile of requests that the worker answers by itself, while the admin API is
    /// asked for `path` again and again.
    fn load(&self, path: Option<&str>) -> Result<String, String> {
        let mut load = Command::new(&self.bench);
        load.args(["load", &web().to_string(), "/answer", "8", "500", "3"]);
        let mut child =
            load.stdout(std::process::Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        if let Some(path) = path {
            while child.try_wait().map_err(|e| e.to_string())?.is_none() {
                ask("GET", path, "")?;
            }
        }
        let said = child.wait_with_output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        match said.split_whitespace().collect::<Vec<_>>()[..] {
            ["answered", _, "failed", "0", .., "p99", p99] => Ok(p99.to_owned()),
            _ => Err(format!("the load said {said:?}")),
        }
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(Duration, T), String> {
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed(), result))
}

fn median<T: Ord + Copy>(work: impl Fn() -> Result<T, String>) -> Result<(Duration, T), String> {
    let mut times = (0..TIMES).map(|_| timed(&work)).collect::<Result<Vec<_>, String>>()?;
    times.sort_unstable();
    Ok(times[TIMES / 2])
}

/// Posts texts that differ, each from the last.
fn post(text: impl Fn(usize) -> String) -> Result<Duration, String> {
    let texts: Vec<String> = (1..=TIMES).map(text).collect();
    let next = Cell::new(0);
    let (median, _) = median(|| ask("POST", "/v1/config", &texts[next.replace(next.get() + 1)]))?;
    Ok(median)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Addresses that nobody listens at, and nobody asks.
fn address(service: usize, endpoint: usize) -> String {
    format!("127.{}.{}.{}:80", 1 + (service >> 8), service & 255, endpoint + 1)
}

/// `route`: the path of one more; `more`: behind the endpoints of the service in the middle.
fn configuration(services: usize, route: &str, more: &str) -> String {
    let mut text = format!(
        "workers: 1\nadmin: {{ bind: {} }}\nlisteners:\n  web:\n    bind: {}\n    protocol: http\n    routes:\n      - {{ path: /answer, respond: {{ status: 200, body: ok }} }}\n",
        admin(),
        web()
    );
    for n in 0..services {
        let _ = writeln!(text, "      - {{ path: /s{n}/*, service: s{n} }}");
    }
    if !route.is_empty() {
        let _ = writeln!(text, "      - {{ path: {route}, service: s0 }}");
    }
    text += "services:\n";
    for n in 0..services {
        let endpoints: Vec<String> = (0..ENDPOINTS).map(|e| address(n, e)).collect();
        let more = if n == services / 2 { more } else { "" };
        let list = endpoints.join(", ");
        let _ = writeln!(text, "  s{n}: {{ health: off, endpoints: [ {list}{more} ] }}");
    }
    text
}

/// Asks the admin API; answers how long its answer is.
fn ask(method: &str, path: &str, body: &str) -> Result<usize, String> {
    let failed = |e: std::io::Error| format!("{method} {path}: {e}");
    let mut stream = TcpStream::connect(admin()).map_err(failed)?;
    let kind = if method == "PATCH" { "application/json" } else { "application/yaml" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        admin(),
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        let said = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        return Err(format!("{method} {path}: {said}"));
    }
    Ok(answer.len())
}
