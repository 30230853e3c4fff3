//! How many are connected to a port of this machine, as the kernel lists it (proc(5),
//! `/proc/net/tcp`).

/// Connections to our port that are established; `None`: it cannot be known.
pub(super) fn established(port: u16) -> Option<usize> {
    let read = |name: &str| std::fs::read_to_string(name).ok();
    let (four, six) = (read("/proc/self/net/tcp"), read("/proc/self/net/tcp6"));
    if four.is_none() && six.is_none() {
        return None;
    }
    Some(four.iter().chain(&six).map(|table| count(table, port)).sum())
}

/// `sl local_address rem_address st ..`: addresses are `HEX:PORT` in hexadecimal, and state 01 is
/// established.
fn count(table: &str, port: u16) -> usize {
    let local = format!(":{port:04X}");
    let is_ours = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (at, _, state) = (fields.next(), fields.next(), fields.next());
        at.is_some_and(|at| at.ends_with(&local)) && state == Some("01")
    };
    table.lines().skip(1).filter(is_ours).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_to_the_port_are_counted() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1388 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0100007F:1388 0100007F:C351 06 00000000:00000000 00:00000000 00000000     0        0 3
   3: 0100007F:C350 0100007F:1388 01 00000000:00000000 00:00000000 00000000     0        0 4
";
        assert_eq!((count(table, 5000), count(table, 50000), count(table, 80)), (1, 1, 0));
        assert_eq!(count("", 80), 0);
    }

    #[test]
    fn our_own_connection_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(established(port), Some(0));
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _server = listener.accept().unwrap();
        assert_eq!(established(port), Some(1));
    }
}
