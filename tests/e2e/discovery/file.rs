//! `discover: { file: PATH }`

use std::fs;
use std::net::SocketAddr;

use super::{answer, discovered, ports};
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::{Client, Evenkeel, LOAD_SECONDS, Replica, Wrk, free_port, until};

fn bind() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn a_file_changes_under_load() {
    let [a, b, c] = ["a", "b", "c"].map(Replica::named);
    let bind = bind();
    let program = Evenkeel::spawn(&discovered(bind, "{ file: lists/web.yaml }"));
    let list = program.folder.join("lists/web.yaml");
    let discovery = || program.api("/v1/discovery")["discovery"][0].clone();
    until("what is missing is told", || {
        Client::try_get(program.admin, "/readyz").is_some_and(|answer| {
            answer.status == 503 && answer.text().contains("waiting for file ")
        })
    });
    fs::create_dir(list.parent().unwrap()).unwrap();
    fs::write(&list, format!("- {}\n", a.address)).unwrap();
    program.wait_ready();
    let found = discovery();
    assert_eq!((&found["provider"], &found["service"]), (&"file".into(), &"web".into()));
    assert_eq!((&found["connected"], &found["endpoints"]), (&true.into(), &1.into()));
    assert!(found["source"].as_str().unwrap().ends_with("/lists/web.yaml"), "{found}");
    assert_eq!(answer(bind), "a");

    let load = Wrk::start(bind, "/", 8, LOAD_SECONDS);
    let replace = |text: &str| {
        fs::write(list.with_extension("next"), text).unwrap();
        fs::rename(list.with_extension("next"), &list).unwrap();
    };
    replace(&format!("web: [ {}, {{ address: {}, weight: 3 }} ]", a.address, b.address));
    until("two", || program.count("web", "healthy") == 2);
    assert_eq!(program.endpoint("web", &b.address.to_string())["weight"], 3);
    replace(&format!("[\"{}\"]", b.address));
    until("one, another", || ports(&program) == [b.port()]);
    until("b answers", || answer(bind) == "b");

    let reason = || discovery()["reason"].as_str().unwrap_or_default().to_owned();
    for (wrong, place) in [("", "web.yaml:1:1: "), ("- 127.0.0.1", "web.yaml:1:3: ")] {
        replace(wrong);
        until(place, || reason().contains(place));
        assert_eq!(
            (ports(&program), discovery()["connected"].as_bool()),
            (vec![b.port()], Some(false))
        );
    }
    fs::remove_file(&list).unwrap();
    until("its absence is told", || reason().contains("No such file"));
    assert_eq!(ports(&program), [b.port()]);
    let (good, status) = program.verb(&["status"]);
    assert!(good && status.contains("No such file") && status.contains("(for web)"), "{status}");

    fs::write(&list, format!("- {}\n- {}\n", b.address, c.address)).unwrap();
    until("all is well again", || program.count("web", "healthy") == 2);
    let load = load.stop();
    assert!(load.requests > 0, "{load:?}");
    assert!(load.is_perfect(), "{load:?}");
    eprintln!("a file under load: {load:?}");

    let metrics = Client::get(program.admin, "/metrics").text();
    let line = "evenkeel_discovery_endpoints{provider=\"file\",service=\"web\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    fs::write(&list, "[]").unwrap();
    until("nobody, as it says", || Client::get(bind, "/").status == 503);
}

#[test]
fn a_folder_of_files_and_a_service_that_changes_its_source() {
    let [a, b, c] = ["a", "b", "c"].map(Replica::named);
    let bind = bind();
    let folder = Folder::new();
    fs::create_dir(folder.join("web.d")).unwrap();
    let file = |name: &str, text: String| fs::write(folder.join("web.d").join(name), text).unwrap();
    file("a.yaml", format!("[ {} ]", a.address));
    file("b.json", format!("[ \"{}\" ]", b.address));
    let config = |discover: &str| discovered(bind, discover);
    let (web_d, other) = (folder.join("web.d"), folder.join("other.yaml"));
    let program = Evenkeel::run(&config(&format!("{{ file: {} }}", web_d.display())));
    until("both", || program.count("web", "healthy") == 2);
    fs::remove_file(folder.join("web.d/a.yaml")).unwrap();
    until("one", || ports(&program) == [b.port()]);

    let mut client = Client::connect(bind);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "b");
    // The new source says nothing yet: those of the old one stay.
    program.reconfigure(&config(&format!("{{ file: {} }}", other.display())));
    assert_eq!((ports(&program), answer(bind)), (vec![b.port()], "b".to_owned()));
    file("c.yaml", format!("[ {} ]", c.address));
    fs::write(&other, format!("[ {} ]", a.address)).unwrap();
    until("the new source's", || ports(&program) == [a.port()]);
    until("a answers", || answer(bind) == "a");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "a");

    let fixed = format!(
        "listeners: {{ web: {{ bind: {bind}, service: web }} }}\n\
         services: {{ web: {{ endpoints: [ {} ] }} }}\n",
        c.address
    );
    program.reconfigure(&fixed);
    until("those listed", || ports(&program) == [c.port()]);
    assert_eq!(program.api("/v1/discovery")["discovery"].as_array().unwrap().len(), 0);
}
