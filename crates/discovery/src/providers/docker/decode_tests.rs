use super::*;

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// As Docker 20.10 answers, shortened.
const INSPECTED: &str = r#"{"Id":"ID","Created":"2026-11-21T14:00:00.1Z","Name":"/shop_web_1",
"State":{"Status":"running","Running":true,"Paused":false,"Restarting":false,"OOMKilled":false,
"Dead":false,"Pid":4242,"ExitCode":0,"Error":"","StartedAt":"2026-11-21T14:03:11.123456789Z",
"FinishedAt":"0001-01-01T00:00:00Z","Health":{"Status":"starting","FailingStreak":0,"Log":[]}},
"HostConfig":{"NetworkMode":"shop_default","PortBindings":{}},
"Config":{"Hostname":"4c01db0b339c","Env":["PATH=/bin","SECRET=x","VIRTUAL_HOST=a.example"],
"Image":"shop:1","Labels":{"evenkeel.port":"5000","empty":null},"StopSignal":"SIGQUIT",
"ExposedPorts":{"5000/tcp":{},"53/udp":{},"9/sctp":{}}},
"NetworkSettings":{"Ports":{"5000/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},
{"HostIp":"::","HostPort":"8080"}],"53/udp":null},"Networks":{
"shop_default":{"IPAddress":"172.18.0.3","GlobalIPv6Address":""},
"six":{"IPAddress":"","GlobalIPv6Address":"fd00::3"},"gone":{"IPAddress":""},"none":null}}}"#;

#[test]
fn an_inspection() {
    let text = INSPECTED.replace("ID", &id('a'));
    let Inspection { container, pid, stop_signal, hostname } = inspection(text.as_bytes()).unwrap();
    assert_eq!((pid, stop_signal, &*hostname), (4242, 3, "4c01db0b339c"));
    assert_eq!(container.name, "shop_web_1");
    assert_eq!(container.short_id(), "aaaaaaaaaaaa");
    assert_eq!(container.phase, Phase::Running);
    assert_eq!(container.health, Health::Starting);
    assert_eq!(container.labels["evenkeel.port"], "5000");
    assert_eq!(container.environment.len(), 1);
    assert_eq!(container.networks.len(), 2);
    assert_eq!(container.networks["six"], "fd00::3".parse::<IpAddr>().unwrap());
    assert_eq!(container.ports.len(), 2);
    assert_eq!(container.published.len(), 2);
    assert_eq!(container.published[0].host_port, 8080);
    // 2026-11-21 is 20,778 days after 1970-01-01.
    let seconds = 20_778 * 86_400 + 14 * 3600 + 3 * 60 + 11;
    assert_eq!(container.started_at, seconds * 1_000_000_000 + 123_456_789);
}

#[test]
fn what_is_absent_or_null_does_no_harm() {
    let bare = format!(r#"{{"Id":"{}"}}"#, id('b'));
    let bare = inspection(bare.as_bytes()).unwrap();
    assert_eq!((bare.pid, bare.stop_signal, bare.container.phase), (0, 15, Phase::Ended));
    let nulls = format!(
        r#"{{"Id":"{}","Name":null,"State":null,"Config":{{"Labels":null,"Env":null}},
        "NetworkSettings":{{"Networks":null,"Ports":null}},"HostConfig":null}}"#,
        id('b')
    );
    assert_eq!(inspection(nulls.as_bytes()).unwrap().container.started_at, 0);
    for wrong in ["", "[]", "{}", r#"{"Id":"../../x"}"#, r#"{"Id":7}"#, "\u{0}"] {
        assert_eq!(inspection(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn phases() {
    let check = |state: &str, expected: Phase| {
        let text = format!(r#"{{"Id":"{}","State":{state}}}"#, id('c'));
        assert_eq!(inspection(text.as_bytes()).unwrap().container.phase, expected, "{state}");
    };
    check(r#"{"Status":"running","Running":true}"#, Phase::Running);
    check(r#"{"Running":true}"#, Phase::Running);
    check(r#"{"Status":"paused","Running":true,"Paused":true}"#, Phase::Paused);
    check(r#"{"Status":"restarting","Running":true,"Restarting":true}"#, Phase::Ended);
    check(r#"{"Status":"exited","Running":false}"#, Phase::Ended);
    check(r#"{"Status":"stopping"}"#, Phase::Stopping);
    check(r#"{"Status":"created"}"#, Phase::Ended);
}

#[test]
fn events() {
    let check = |text: &str, expected: Option<What>| {
        let text = text.replace("XX", &id('d'));
        let event = event(text.as_bytes());
        assert_eq!(event.as_ref().map(|event| &event.what), expected.as_ref(), "{text}");
        assert!(event.is_none_or(|event| event.id == id('d')));
    };
    let container = |action: &str, attributes: &str| {
        format!(
            r#"{{"status":"{action}","id":"XX","from":"shop","Type":"container",
            "Action":"{action}","Actor":{{"ID":"XX","Attributes":{{{attributes}}}}},
            "scope":"local","time":1763733791,"timeNano":1763733791123456789}}"#
        )
    };
    check(&container("start", ""), Some(What::Start));
    check(&container("die", r#""exitCode":"0""#), Some(What::Die));
    check(&container("died", ""), Some(What::Die));
    check(&container("destroy", ""), Some(What::Destroy));
    check(&container("pause", ""), Some(What::Pause));
    check(&container("unpause", ""), Some(What::Unpause));
    check(&container("rename", ""), Some(What::Changed));
    check(&container("kill", r#""signal":"15""#), Some(What::Kill { signal: 15 }));
    check(&container("kill", r#""signal":"SIGHUP""#), Some(What::Kill { signal: 1 }));
    check(&container("kill", ""), None);
    check(&container("health_status: healthy", ""), Some(What::Health(Health::Healthy)));
    let podman = r#""health_status":"unhealthy""#;
    check(&container("health_status", podman), Some(What::Health(Health::Unhealthy)));
    check(&container("exec_start: sh", ""), None);
    check(&container("resize", ""), None);
    let network = |action: &str| {
        format!(
            r#"{{"Type":"network","Action":"{action}","Actor":{{"ID":"n","Attributes":
            {{"container":"XX","name":"front","type":"bridge"}}}},"time":7}}"#
        )
    };
    check(&network("connect"), Some(What::Changed));
    check(&network("disconnect"), Some(What::Left { network: "front".into() }));
    check(&network("create"), None);
    check(r#"{"Type":"image","Action":"start","Actor":{"ID":"XX"}}"#, None);
    check(r#"{"Type":"container","Action":"start","Actor":{"ID":"../x"}}"#, None);
    check("{", None);
    let text = network("connect").replace("XX", &id('d'));
    assert_eq!(event(text.as_bytes()).unwrap().at, 7_000_000_000);
}

#[test]
fn lists_and_versions() {
    let text = format!(r#"[{{"Id":"{}","Names":["/a"]}},{{"Id":"short"}}]"#, id('e'));
    assert_eq!(list(text.as_bytes()), Some(vec![id('e')]));
    assert_eq!(list(b"[]"), Some(Vec::new()));
    assert_eq!(list(b"{}"), None);
    let docker = br#"{"Components":[{"Name":"Engine","Version":"20.10"}],"Version":"20.10.24"}"#;
    assert_eq!(version(docker).as_deref(), Some("Docker 20.10.24"));
    let podman = br#"{"Components":[{"Name":"Podman Engine"}],"Version":"4.3.1"}"#;
    assert_eq!(version(podman).as_deref(), Some("Podman 4.3.1"));
    assert_eq!(version(b"{}"), None);
}

#[test]
fn usage_is_the_difference_of_two_samples() {
    let look = |used: u64, system: u64| {
        let text = format!(
            r#"{{"cpu_stats":{{"cpu_usage":{{"total_usage":{used}}},"system_cpu_usage":{system},
            "online_cpus":2}},"memory_stats":{{"usage":5000,"limit":10000,
            "stats":{{"inactive_file":1000}}}}}}"#
        );
        sample(text.as_bytes()).unwrap()
    };
    let usage = look(1500, 4000).since(&look(1000, 2000)).unwrap();
    assert_eq!((usage.cpus, usage.cpus_limit), (0.5, 2.0));
    assert_eq!((usage.memory, usage.memory_limit), (4000, 10_000));
    assert_eq!(look(1500, 4000).since(&look(1500, 4000)), None);
    assert_eq!(look(500, 4000).since(&look(1000, 2000)), None);
    assert_eq!(sample(br#"{"cpu_stats":{"cpu_usage":{}}}"#), None);
    assert_eq!(sample(b"null"), None);
}

#[test]
fn dates() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("1970-01-01T00:00:01.5Z", Some(1_500_000_000)),
        ("2000-03-01T00:00:00Z", Some(951_868_800_000_000_000)),
        ("2000-03-01T02:00:00+02:00", Some(951_868_800_000_000_000)),
        ("2000-02-29T22:30:00.25-01:30", Some(951_868_800_250_000_000)),
        ("0001-01-01T00:00:00Z", Some(-1)),
        ("", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-11-21 14", None),
        ("\u{1f980}\u{1f980}\u{1f980}\u{1f980}\u{1f980}", None),
    ] {
        assert_eq!(nanos(text), expected, "{text}");
    }
}

#[test]
fn what_is_taken_is_bounded_and_ours_comes_first() {
    let many: BTreeMap<String, Option<String>> =
        (0..2000).map(|n| (format!("a{n}"), Some("v".repeat(100)))).collect();
    let mut all = many.clone();
    all.insert("traefik.enable".into(), Some("true".into()));
    all.insert("evenkeel.port".into(), Some("1".into()));
    let taken = labels(all);
    assert_eq!(taken.len(), LABELS_MAX);
    assert!(taken.contains_key("traefik.enable") && taken.contains_key("evenkeel.port"));
}
