//! Traffic beside what a test does, which must not notice any of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use super::client::Client;
use super::wait::until;

/// Two clients, one that keeps its connection and one that makes a new one for each request. Every
/// request must be answered with 200.
pub struct Beside {
    answered: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Beside {
    pub fn start(address: SocketAddr, path: &'static str) -> Beside {
        let answered = Arc::new(AtomicU64::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let kept = (answered.clone(), stopped.clone());
        let fresh = kept.clone();
        let threads = vec![
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !kept.1.load(SeqCst) {
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
                    assert_eq!(client.response().unwrap().status, 200, "traffic beside");
                    kept.0.fetch_add(1, SeqCst);
                }
            }),
            std::thread::spawn(move || {
                while !fresh.1.load(SeqCst) {
                    assert_eq!(Client::get(address, path).status, 200, "traffic beside");
                    fresh.0.fetch_add(1, SeqCst);
                }
            }),
        ];
        let beside = Beside { answered, stopped, threads };
        beside.goes_on();
        beside
    }

    /// Waits for a hundred more answers.
    pub fn goes_on(&self) {
        let enough = self.answered.load(SeqCst) + 100;
        until("answers to the traffic beside", || self.answered.load(SeqCst) >= enough);
    }

    /// Ends it; not one request failed. Answers how many there were.
    pub fn assert_unharmed(mut self) -> u64 {
        self.goes_on();
        self.stopped.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("every request beside is answered with 200");
        }
        self.answered.load(SeqCst)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
    }
}
