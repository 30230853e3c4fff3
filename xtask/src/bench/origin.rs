//! The replica behind everyone: nginx with one worker, answering from memory.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::process::Process;

pub(super) struct Origin {
    _process: Process,
    pub(super) address: SocketAddr,
}

const PORT: u16 = 21_900;

impl Origin {
    pub(super) fn start(work: &Path) -> Result<Self, String> {
        let work = fs::canonicalize(work).map_err(|e| e.to_string())?;
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        fs::write(work.join("64k"), vec![b'x'; 64 << 10]).map_err(|e| e.to_string())?;
        let folder = work.display();
        let body = "x".repeat(512);
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {folder}/origin.pid;
error_log {folder}/origin-error.log crit;
events {{ worker_connections 20000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; tcp_nopush on;
  open_file_cache max=10;
  client_body_temp_path {folder}/ot1; proxy_temp_path {folder}/ot2; fastcgi_temp_path {folder}/ot3;
  uwsgi_temp_path {folder}/ot4; scgi_temp_path {folder}/ot5;
  server {{
    listen {address} backlog=4096;
    location = /512 {{ return 200 \"{body}\"; }}
    location = /64k {{ root {folder}; }}
  }}
}}
"
        );
        let file = work.join("origin.conf");
        fs::write(&file, text).map_err(|e| e.to_string())?;
        let command = ["nginx", "-c", &file.display().to_string()].map(str::to_owned);
        let log = work.join("origin.log");
        let mut process = Process::start(&command, &log)?;
        process.wait_for(address, &log)?;
        Ok(Self { _process: process, address })
    }
}
