//! `dns`: services as names, asked by dig and by Python's resolver.

use std::net::SocketAddr;
use std::process::Command;

use crate::e2e::harness::peer::{find, skip};
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Evenkeel, Replica, free_port, until};

/// What dig says, without its comments.
fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args(["+tries=1", "-p", &server.port().to_string(), "@127.0.0.1"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn short(server: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let text = dig(server, &[&["+short"], arguments].concat());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn services_are_names() {
    if find("dig").is_none() {
        return;
    }
    let port = free_port();
    let replica = |last: u8| {
        Replica::http_at(
            SocketAddr::from(([127, 0, 0, last], port)),
            move |_| ok(&last.to_string()),
        )
    };
    let (_two, three, _four) = (replica(2), replica(3), replica(4));
    let names = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let many: Vec<String> = (0..200).map(|n| format!("127.9.0.{n}:{port}")).collect();
    let many = many.join(", ");
    let config = |ttl: &str| {
        format!(
            "dns: {{ bind: {names}, domain: k.test, ttl: {ttl} }}\n\
             listeners: {{ web: {{ bind: {bind}, routes: [ {{ path: /m, service: Many.v2 }}, \
             {{ service: web }} ] }} }}\n\
             services:\n  web:\n    health: {{ tcp: {{}}, interval: 100ms }}\n    endpoints:\n\
             \x20   - {{ address: 127.0.0.2:{port}, weight: 3, zone: eu-1 }}\n\
             \x20   - {{ address: 127.0.0.3:{port}, zone: us }}\n\
             \x20   - {{ address: 127.0.0.4:{port}, priority: 1 }}\n\
             \x20 Many.v2: {{ health: off, endpoints: [ {many} ] }}\n"
        )
    };
    let program = Evenkeel::run(&config("7s"));
    until("all are well", || program.count("web", "healthy") == 3);
    let two = |kind: &str| short(names, &["web.k.test", kind]);
    until("what is told is fresh", || two("A").len() == 2);
    assert_eq!(two("A"), ["127.0.0.2", "127.0.0.3"], "of the first priority");
    assert_eq!(two("AAAA"), [""; 0]);
    let services =
        [format!("0 1 {port} 7f000003.addr.k.test."), format!("0 3 {port} 7f000002.addr.k.test.")];
    assert_eq!(two("SRV"), services);
    assert_eq!(short(names, &["+tcp", "_http._tcp.WEB.k.test", "SRV"]), services);
    assert_eq!(short(names, &["7f000003.addr.k.test", "A"]), ["127.0.0.3"]);
    assert_eq!(short(names, &["zone.eu-1.web.k.test", "A"]), ["127.0.0.2"]);
    let whole = dig(names, &["web.k.test", "A"]);
    assert!(whole.contains("status: NOERROR") && whole.contains("web.k.test.\t\t7\tIN\tA\t"));
    for (name, status) in [
        ("nobody.k.test", "NXDOMAIN"),
        ("zone.asia.web.k.test", "NXDOMAIN"),
        ("web.test", "REFUSED"),
    ] {
        let said = dig(names, &[name, "A"]);
        assert!(said.contains(&format!("status: {status}")), "{name}: {said}");
        assert_eq!(
            said.contains("SOA\tns.k.test. hostmaster.k.test. "),
            status == "NXDOMAIN",
            "{said}"
        );
    }
    let said = dig(names, &["web.k.test", "AAAA"]);
    assert!(said.contains("status: NOERROR") && said.contains("ANSWER: 0, AUTHORITY: 1"), "{said}");
    // What does not fit is cut off over UDP, and dig asks again over TCP.
    let cut = dig(names, &["+ignore", "many.v2.k.test", "A"]);
    assert!(cut.contains("flags: qr aa tc rd"), "{cut}");
    assert_eq!(short(names, &["many.v2.k.test", "A"]).len(), 200);
    assert_eq!(short(names, &["+noedns", "many.v2.k.test", "A"]).len(), 200);

    // Health decides who is told.
    drop(three);
    until("one is told", || two("A") == ["127.0.0.2"]);
    program.reconfigure(&config("1s"));
    until("another lifetime, on the same socket", || {
        dig(names, &["web.k.test", "A"]).contains("\t1\tIN\tA\t")
    });

    let python = "import dns.resolver, sys\n\
                  r = dns.resolver.Resolver(configure=False)\n\
                  r.nameservers, r.port = ['127.0.0.1'], int(sys.argv[1])\n\
                  print(*[a.address for a in r.resolve('web.k.test', 'A')])\n\
                  print(*[(a.priority, a.weight, a.port) for a in r.resolve('_x._tcp.web.k.test', 'SRV')])\n\
                  print(len(r.resolve('many.v2.k.test', 'A')))\n\
                  try: r.resolve('nobody.k.test', 'A')\n\
                  except dns.resolver.NXDOMAIN: print('none')\n";
    let output = Command::new("python3").args(["-c", python, &names.port().to_string()]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if error.contains("No module named") {
        skip("python3 with dnspython", "is not installed");
    } else {
        assert_eq!(text, format!("127.0.0.2\n(0, 3, {port})\n200\nnone\n"), "{error}");
    }
    let taken = program.post_config(&config("1s").replace(&names.to_string(), &bind.to_string()));
    assert_eq!(taken.status, 400, "{}", taken.text());
    assert_eq!(Client::get(bind, "/").status, 200);
    program.reconfigure(&config("1s").replacen("dns:", "#", 1));
    until("nobody answers any more", || std::net::TcpStream::connect(names).is_err());
}
