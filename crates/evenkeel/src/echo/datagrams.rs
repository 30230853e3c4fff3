use tokio::net::UdpSocket;

use super::{Task, stopped};

/// The longest datagram that UDP can carry.
const DATAGRAM_LEN_MAX: usize = 65_535;

/// Answers each datagram with the replica's name, a space and the datagram.
pub(super) async fn answer(socket: UdpSocket, mut task: Task) {
    let mut buffer = vec![0; DATAGRAM_LEN_MAX];
    let name = format!("{} ", task.replica.name);
    let mut answer = Vec::new();
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = stopped(&mut task.stop) => return,
        };
        // An error is an earlier answer that could not be delivered.
        let Ok((len, from)) = received else { continue };
        answer.clear();
        answer.extend_from_slice(name.as_bytes());
        answer.extend_from_slice(&buffer[..len]);
        let _ = socket.send_to(&answer, from).await;
    }
}
