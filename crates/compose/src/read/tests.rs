use super::*;
use crate::project::{Condition, MountKind, UpdateOrder};

/// Reads `text` as `/project/compose.yaml`.
pub(crate) fn read_text(text: &str, environment: &[(&str, &str)]) -> Result<Checked, Defects> {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    read(&Input {
        source: Source { name: "compose.yaml", text },
        path: "/project/compose.yaml".into(),
        further: Vec::new(),
        project: None,
        environment: environment.collect(),
        profiles: BTreeSet::new(),
        named: BTreeSet::new(),
        read_file: &|path| match path.to_str() {
            Some("/project/e.env") => Ok("Z=1\n".into()),
            Some("/project/bad.env") => Ok("A=1\n!\n".into()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    })
}

pub(crate) fn checked(text: &str) -> Checked {
    read_text(text, &[]).unwrap_or_else(|defects| panic!("{defects}"))
}

/// Place and message of each defect.
fn defects(text: &str) -> Vec<String> {
    match read_text(text, &[]) {
        Ok(checked) => checked.warnings,
        Err(defects) => defects.0,
    }
    .iter()
    .map(|d| format!("{}:{}: {}", d.line, d.column, d.message))
    .collect()
}

#[test]
fn the_example_of_every_tutorial() {
    let checked = checked(
        "services:\n  web:\n    build: .\n    ports: [\"8080:5000\"]\n    depends_on: [redis]\n  \
         redis:\n    image: \"redis:alpine\"\n",
    );
    assert!(checked.warnings.is_empty());
    let project = checked.project;
    assert_eq!(
        (project.name.as_str(), &project.order[..]),
        ("project", &["redis".into(), "web".into()][..])
    );
    let web = &project.services["web"];
    assert_eq!(web.image.as_deref(), Some("project-web"));
    assert_eq!(web.build.as_ref().unwrap().context, Path::new("/project"));
    assert_eq!(web.balanced_ports().count(), 1);
    assert!(web.starts_first());
    assert_eq!(web.depends_on["redis"].condition, Condition::Started);
    assert_eq!(project.networks["default"].name, "project_default");
}

#[test]
fn what_a_service_says() {
    let text = "\
name: Shop
x-base: &base { restart: \"on-failure:3\", x-note: passed over }
services:
  web:
    <<: *base
    image: web:${TAG:-1}
    command: run --name 'a b'
    entrypoint: [sh, -c]
    environment: [A=1, FROM_HERE, NOT_SET]
    env_file: [e.env, { path: none.env, required: false }]
    volumes: [\"data:/data\", \"./src:/src:ro\", \"/cache\", { type: tmpfs, target: /t, tmpfs: { size: 1m } }]
    networks: { back: { aliases: [w] } }
    healthcheck: { test: curl x, interval: 1m30s, retries: 2 }
    deploy: { replicas: 3, resources: { limits: { cpus: '0.5', memory: 1g } } }
    stop_grace_period: 1500ms
    depends_on: { db: { condition: service_healthy } }
    x-evenkeel: { protocol: tcp, policy: random, autoscale: { max: 4, in_flight: 8 } }
  db: { image: db, volumes: [\"data:/d\"], deploy: { update_config: { order: start-first } } }
volumes: { data: }
networks: { back: { name: other, external: true } }
";
    let project = read_text(text, &[("FROM_HERE", "x"), ("HOME", "/root")]).unwrap().project;
    assert_eq!(project.name, "shop");
    let web = &project.services["web"];
    assert_eq!(web.image.as_deref(), Some("web:1"));
    assert_eq!(web.config["Cmd"], serde_json::json!(["run", "--name", "a b"]));
    assert_eq!(web.config["Healthcheck"]["Test"][0], "CMD-SHELL");
    assert_eq!(web.config["Healthcheck"]["Interval"], 90_000_000_000_u64);
    let environment: Vec<(&str, &str)> =
        web.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("A", "1"), ("FROM_HERE", "x"), ("Z", "1")]);
    let mounts: Vec<(MountKind, &str, bool)> =
        web.mounts.iter().map(|m| (m.kind, m.source.as_str(), m.read_only)).collect();
    assert_eq!(
        mounts,
        [
            (MountKind::Volume, "data", false),
            (MountKind::Bind, "/project/src", true),
            (MountKind::Volume, "", false),
            (MountKind::Tmpfs, "", false),
        ]
    );
    assert!(!web.starts_first(), "it writes to a volume");
    assert_eq!(web.host["RestartPolicy"]["MaximumRetryCount"], 3);
    assert_eq!((web.replicas, &web.host["NanoCpus"]), (3, &500_000_000.into()));
    assert_eq!(web.stop_grace, Some(std::time::Duration::from_millis(1500)));
    assert_eq!(web.balancing.service["policy"], "random");
    assert_eq!(web.balancing.autoscale.as_ref().unwrap().max, 4);
    assert_eq!(web.balancing.autoscale.as_ref().unwrap().idle.as_secs(), 300);
    let db = &project.services["db"];
    assert_eq!(db.update_order, Some(UpdateOrder::StartFirst));
    assert!(db.starts_first());
    assert_eq!(project.networks["back"].name, "other");
    assert_eq!(project.volumes["data"].name, "shop_data");
}

#[test]
fn profiles_choose_services() {
    let text = "services:\n  a: { image: a }\n  b: { image: b, profiles: [dev] }\n";
    assert_eq!(checked(text).project.order, ["a"]);
    let chosen = |profiles: &[&str], named: &[&str]| {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let input = Input {
            source: Source { name: "f", text },
            path: "/project/f".into(),
            further: Vec::new(),
            project: Some("P.q".into()),
            environment: BTreeMap::new(),
            profiles: set(profiles),
            named: set(named),
            read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        read(&input).unwrap().project
    };
    assert_eq!(chosen(&["dev"], &[]).order, ["a", "b"]);
    assert_eq!(chosen(&[], &["b"]).order, ["a", "b"]);
    assert_eq!(chosen(&[], &[]).name, "pq");
}

#[test]
fn what_is_not_understood_is_told_with_its_place() {
    for (text, expected) in [
        ("services:\n  a: { image: a, prots: [] }", "2:18: unknown key `prots` in service `a`"),
        ("services:\n  a: { image: a }\nvolums: {}", "3:1: unknown key `volums` in the file"),
        ("services:\n  a: { image: a, extends: b }", "2:27: there is no service `b` to extend"),
        (
            "services:\n  a: { extends: b }\n  b: { extends: a }",
            "3:17: these services extend each other: `a`, `b`",
        ),
        (
            "services:\n  a: { image: a, deploy: { placement: {} } }",
            "2:28: `placement` of `deploy` of service `a` has no effect here",
        ),
        (
            "services:\n  a: { image: $TAG }",
            "2:16: the variable TAG is not set, and counts as empty",
        ),
        ("services:\n  a: { image: \"x${TAG\" }", "2:17: this variable does not end as it should"),
        ("services:\n  a: { command: x }", "2:3: service `a` has neither `image` nor `build`"),
        (
            "services:\n  a: { image: a, depends_on: [b] }",
            "2:30: service `a` uses service `b`, which is not there",
        ),
        (
            "services:\n  a: { image: a, networks: [b] }",
            "2:28: service `a` uses network `b`, which is not there",
        ),
        (
            "services:\n  a: { image: a, volumes: [\"b:/b\"] }",
            "2:27: service `a` uses volume `b`, which is not there",
        ),
        (
            "services:\n  a: { image: a, depends_on: [b] }\n  b: { image: b, depends_on: [a] }",
            "2:3: these services depend on each other: `a`, `b`",
        ),
        ("services:\n  a: { image: a, ports: [\"x:1\"] }", "2:26: `x:1` is no port"),
        (
            "services:\n  a: { image: a, restart: maybe }",
            "2:27: `restart` must be \"no\", always, unless-stopped, on-failure or on-failure:N, not `maybe`",
        ),
        (
            "services:\n  a: { image: a, stop_grace_period: 10 }",
            "2:37: `stop_grace_period` must be a duration, such as 30s or 1m30s, not `10`",
        ),
        (
            "services:\n  a: { image: a, env_file: bad.env }",
            "2:28: /project/bad.env:2: \"!\" is no name of a variable; write NAME=value",
        ),
        (
            "services:\n  a: { image: a, env_file: none.env }",
            "2:28: cannot read /project/none.env: entity not found",
        ),
        (
            "services:\n  a: { image: a, container_name: x, scale: 2 }",
            "2:3: service `a` has a `container_name`, and can have one container only",
        ),
        (
            "services:\n  a: { image: a, x-evenkeel: { protocol: h3 } }",
            "2:42: `protocol` must be http, h2c, h2, auto or tcp, not `h3`",
        ),
        (
            "services:\n  a: { image: a, ports: [1-65535, 1-65535] }",
            "2:35: more than 65536 ports in one project",
        ),
        ("services: []", "1:11: `services` must be a map of keys, not a list"),
        ("services:\n  \"-a\": { image: a }", "2:3: `-a` cannot be the name of a service"),
    ] {
        let found = defects(text);
        assert!(found.iter().any(|found| found == expected), "{text}\n{found:#?}");
    }
}

#[test]
fn hostile_texts_are_refused_and_never_a_panic() {
    let pieces = [
        "services:",
        "\n  ",
        "a:",
        "image: ",
        "x",
        "[",
        "{",
        "]",
        "}",
        "*a",
        "&a ",
        "- ",
        "ports: ",
        "\"1:2\"",
        "${",
        "$",
        "null",
        ": ",
        "\n",
        "deploy: ",
        "build: ",
        "volumes: ",
        "~",
        "<<: ",
    ];
    let mut rng = model::Rng::from_seed(7);
    for _ in 0..5_000 {
        let length = rng.below(30);
        let text: String =
            (0..length).map(|_| pieces[rng.below(pieces.len() as u64) as usize]).collect();
        let _ = read_text(&text, &[]);
    }
    let many = "services:\n".to_owned() + &"  a: {}\n".repeat(2_000);
    assert!(read_text(&many, &[]).is_err());
}

/// Reads files as `-f` would in this order, those that `extends` names beside them.
fn merged(files: &[(&str, &str)], beside: &[(&str, &str)]) -> Result<Checked, Defects> {
    let further = files[1..].iter();
    read(&Input {
        source: Source { name: files[0].0, text: files[0].1 },
        path: Path::new("/project").join(files[0].0),
        further: further
            .map(|(name, text)| File {
                path: Path::new("/project").join(name),
                text: (*text).into(),
            })
            .collect(),
        project: None,
        environment: BTreeMap::from([("TAG".to_owned(), "7".to_owned())]),
        profiles: BTreeSet::new(),
        named: BTreeSet::new(),
        read_file: &|path| match beside.iter().find(|(name, _)| Path::new(name) == path) {
            Some((_, text)) => Ok((*text).to_owned()),
            None => Err(std::io::ErrorKind::NotFound.into()),
        },
    })
}

#[test]
fn several_files_are_merged_by_the_rules_of_the_specification() {
    let base = "\
name: first
services:
  web:
    image: web:${TAG}
    build: ./web
    command: [run, it]
    environment: [A=1, B=2]
    labels: { one: 1 }
    ports: [\"8080:80\", \"8443:443\"]
    volumes: [\"./src:/src\", \"data:/data\"]
    depends_on: [db]
    networks: [back]
    expose: [80]
    healthcheck: { test: [CMD, a], interval: 5s }
    logging: { driver: json-file, options: { max-size: 1m } }
    dns: 1.1.1.1
    deploy: { replicas: 2, resources: { limits: { memory: 1g } } }
  db: { image: db }
networks: { back: { labels: [x=1] }, front: }
volumes: { data: }
";
    let over = "\
services:
  web:
    build: { target: dev }
    command: debug
    environment: { B: 3, C: }
    labels: [two=2]
    ports: [\"8080:80/tcp\", { target: 443, published: 9443 }]
    volumes: [{ type: bind, source: ./other, target: /src }, \"/cache\"]
    depends_on: { cache: { condition: service_healthy } }
    networks: { front: { aliases: [w] } }
    expose: [80, 81]
    healthcheck: { test: b }
    logging: { driver: syslog }
    dns: [8.8.8.8]
    deploy: { replicas: 3 }
    x-evenkeel: { policy: random }
  cache: { image: cache, healthcheck: { test: c } }
networks: { back: { labels: { y: 2 } } }
";
    let files = [("compose.yaml", base), ("compose.override.yaml", over)];
    let project = merged(&files, &[]).unwrap().project;
    assert_eq!(project.name, "first");
    assert_eq!(project.files.len(), 2);
    assert_eq!(project.services.keys().collect::<Vec<_>>(), ["cache", "db", "web"]);
    assert_eq!(project.networks["back"].labels.len(), 2);
    let web = &project.services["web"];
    assert_eq!(web.image.as_deref(), Some("web:7"));
    let build = web.build.as_ref().unwrap();
    assert_eq!(
        (build.context.as_path(), build.target.as_deref()),
        (Path::new("/project/web"), Some("dev"))
    );
    assert_eq!(web.config["Cmd"], serde_json::json!(["debug"]));
    let environment: Vec<String> =
        web.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(environment, ["A=1", "B=3"], "C has no value anywhere");
    assert_eq!(web.labels.keys().collect::<Vec<_>>(), ["one", "two"]);
    let ports: Vec<(u16, u16)> =
        web.ports.iter().map(|p| (p.published.unwrap().0, p.container.number)).collect();
    assert_eq!(ports, [(8443, 443), (8080, 80), (9443, 443)]);
    let mounts: Vec<(&str, &str)> =
        web.mounts.iter().map(|m| (m.source.as_str(), m.target.as_str())).collect();
    assert_eq!(mounts, [("data", "/data"), ("/project/other", "/src"), ("", "/cache")]);
    assert_eq!(web.depends_on["db"].condition, Condition::Started);
    assert_eq!(web.depends_on["cache"].condition, Condition::Healthy);
    assert_eq!(web.networks.len(), 2);
    assert_eq!(web.expose.len(), 2);
    let check = &web.config["Healthcheck"];
    assert_eq!(check["Test"], serde_json::json!(["CMD-SHELL", "b"]));
    assert_eq!(check["Interval"], 5_000_000_000_u64);
    assert_eq!(web.host["LogConfig"]["Type"], "syslog");
    assert!(web.host["LogConfig"]["Config"].as_object().is_none_or(|c| c.is_empty()));
    assert_eq!(web.host["Dns"], serde_json::json!(["1.1.1.1", "8.8.8.8"]));
    assert_eq!((web.replicas, &web.host["Memory"]), (3, &(1_u64 << 30).into()));
    assert_eq!(web.balancing.service["policy"], "random");
}

#[test]
fn tags_take_away_and_take_the_place_as_a_whole() {
    let base = "\
services:
  base: { image: base, environment: { OLD: 1 }, labels: { gone: 1 } }
  web:
    extends: base
    image: web
    ports: [\"8080:80\"]
    environment: { A: 1, B: 2 }
    labels: !reset {}
    command: run
    deploy: { replicas: 3 }
";
    let over = "\
services:
  web:
    ports: !override [\"9090:90\"]
    environment: !override { C: 3 }
    command: !reset null
    deploy: { replicas: !reset }
    dns: !reset [1.1.1.1]
    expose: !override [80]
";
    let files = [("compose.yaml", base), ("compose.override.yaml", over)];
    let project = merged(&files, &[]).unwrap().project;
    let web = &project.services["web"];
    let ports: Vec<u16> = web.ports.iter().map(|p| p.container.number).collect();
    assert_eq!(ports, [90]);
    assert_eq!(web.environment.keys().collect::<Vec<_>>(), ["C"]);
    assert!(web.labels.is_empty() && web.config.get("Cmd").is_none());
    assert_eq!((web.replicas, web.host.get("Dns")), (1, None));
    assert_eq!(web.expose.len(), 1);
    for (text, why) in [
        ("services: { a: { image: !secret x } }", "only `!reset` and `!override`"),
        ("services: { a: { image: x, dns: [ !reset 1.1.1.1 ] } }", "have no meaning in a list"),
    ] {
        let defects = merged(&[("compose.yaml", text)], &[]).unwrap_err().to_string();
        assert!(defects.contains(why), "{defects}");
    }
}

#[test]
fn what_is_wrong_in_a_further_file_is_told_with_its_place() {
    let base = "services: { web: { image: web } }\n";
    for (over, expected) in [
        ("services:\n  web: { prots: [] }\n", "over.yaml:2:10: unknown key `prots`"),
        ("services:\n  web: { ports: [\"x:1\"] }\n", "over.yaml:2:18: `x:1` is no port"),
        ("services:\n  web: { image: \"${X?no X}\" }\n", "over.yaml:2:18: "),
        ("services: [\n", "over.yaml:1:11: this `[` is never closed"),
    ] {
        let defects = merged(&[("compose.yaml", base), ("over.yaml", over)], &[]).unwrap_err();
        let told = |d: &Defect| format!("{}:{}:{}: {}", d.file, d.line, d.column, d.message);
        let found: Vec<String> = defects.iter().map(told).collect();
        assert!(found.iter().any(|f| f.contains(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn a_service_extends_others_of_its_file_and_of_other_files() {
    let text = "\
services:
  base: { image: base, environment: { A: 1, B: 1 }, command: one }
  web: { extends: base, environment: [B=2] }
  worker:
    extends: { service: task, file: ../common/tasks.yaml }
    command: work
    volumes: [\"./here:/here\"]
";
    let tasks = "\
services:
  task:
    extends: { service: root, file: below/root.yaml }
    build: .
    env_file: task.env
    volumes: [\"./there:/there:ro\", { type: bind, source: ../up, target: /up }]
  other: { prots: [] }
";
    let root = "services: { root: { build: { target: t }, labels: { x: y } } }\n";
    let beside = [
        ("/common/tasks.yaml", tasks),
        ("/common/below/root.yaml", root),
        ("/common/task.env", "T=1\n"),
    ];
    let project = merged(&[("compose.yaml", text)], &beside).unwrap().project;
    let web = &project.services["web"];
    assert_eq!(web.image.as_deref(), Some("base"));
    assert_eq!((web.environment["A"].as_str(), web.environment["B"].as_str()), ("1", "2"));
    assert_eq!(web.config["Cmd"], serde_json::json!(["one"]));
    let worker = &project.services["worker"];
    assert_eq!(worker.config["Cmd"], serde_json::json!(["work"]));
    let build = worker.build.as_ref().unwrap();
    assert_eq!(build.context, Path::new("/common"));
    assert_eq!(build.target.as_deref(), Some("t"));
    assert_eq!(worker.environment["T"], "1");
    assert_eq!(worker.labels["x"], "y");
    let sources: Vec<&str> = worker.mounts.iter().map(|m| m.source.as_str()).collect();
    assert_eq!(sources, ["/common/there", "/up", "/project/here"]);
    // Other files are named in what is told of them, and circles end.
    let circle = "services: { a: { extends: { service: a, file: /common/c.yaml } } }\n";
    let back = "services: { a: { extends: { service: a, file: /project/compose.yaml } } }\n";
    let beside = [("/common/c.yaml", back), ("/project/compose.yaml", circle)];
    let defects = merged(&[("compose.yaml", circle)], &beside).unwrap_err();
    assert!(defects.to_string().contains("these services extend each other"), "{defects}");
    let wrong = [("/common/tasks.yaml", "services: { task: { image: a, prots: [] } }\n")];
    let defects = merged(&[("compose.yaml", text)], &wrong).unwrap_err();
    assert!(defects.to_string().contains("/common/tasks.yaml:1:31: error: unknown"), "{defects}");
    let defects = merged(&[("compose.yaml", text)], &[]).unwrap_err();
    assert!(defects.to_string().contains("compose.yaml:5:14: error: cannot read"), "{defects}");
}

#[test]
fn secrets_and_configs_are_files_without_swarm() {
    let text = "\
services:
  web:
    image: web
    secrets: [password, { source: token, target: t, uid: \"7\", mode: 0400 }]
    configs:
      - app
      - { source: inline, target: /etc/app/inline.conf }
secrets: { password: { file: ./password.txt }, token: { environment: TOKEN }, unused: { environment: NOT_SET } }
configs: { app: { file: app.conf }, inline: { content: \"port = ${PORT}\\n\" } }
";
    let read = |token: &str| {
        let checked = read_text(text, &[("TOKEN", token), ("PORT", "80")]);
        checked.unwrap_or_else(|defects| panic!("{defects}")).project
    };
    let project = read("t0p");
    let web = &project.services["web"];
    let mounts: Vec<(&str, &str, bool)> =
        web.mounts.iter().map(|m| (m.source.as_str(), m.target.as_str(), m.read_only)).collect();
    assert_eq!(
        mounts,
        [
            ("/project/password.txt", "/run/secrets/password", true),
            ("/project/app.conf", "/app", true)
        ]
    );
    assert!(web.starts_first(), "it writes to none of them");
    let archive = crate::request::files(web).unwrap().unwrap();
    let mut archive = tar::Archive::new(&archive[..]);
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        let header = entry.header();
        let path = entry.path().unwrap().display().to_string();
        (path, text, header.uid().unwrap(), header.mode().unwrap())
    });
    assert_eq!(
        files.collect::<Vec<_>>(),
        [
            ("run/secrets/t".to_owned(), "t0p".to_owned(), 7, 0o400),
            ("etc/app/inline.conf".to_owned(), "port = 80\n".to_owned(), 0, 0o444),
        ]
    );
    let hash =
        |project: &Project| crate::hash::config_hash(project, &project.services["web"], None);
    assert_eq!(hash(&project), hash(&read("t0p")));
    assert_ne!(hash(&project), hash(&read("other")), "another secret is another container");
    assert!(!format!("{project:?}").contains("t0p\""), "a secret is not shown");
    for (text, expected) in [
        (
            "services: { a: { image: a, secrets: [b] } }\n",
            "1:38: service `a` uses secret `b`, which is not there",
        ),
        (
            "services: { a: { image: a, secrets: [b] } }\nsecrets: { b: { external: true } }\n",
            "1:38: secret `b` is external, in a store that only Swarm has",
        ),
        (
            "services: { a: { image: a, secrets: [b] } }\nsecrets: { b: { environment: B } }\n",
            "1:38: the variable B of secret b is not set",
        ),
        (
            "services: { a: { image: a } }\nsecrets: { b: { content: x } }\n",
            "2:17: unknown key `content` in secret `b`",
        ),
        (
            "services: { a: { image: a } }\nconfigs: { b: { content: x, file: y } }\n",
            "2:12: config `b` needs one thing that it comes from",
        ),
        (
            "services: { a: { image: a, configs: [{ source: b, mode: 9 }] } }\nconfigs: { b: { content: x } }\n",
            "1:57: `mode` must be a mode in octal, such as 0440, not `9`",
        ),
        (
            "services: { a: { image: a, configs: [{ source: b, target: /../x }] } }\nconfigs: { b: { content: x } }\n",
            "1:38: `/../x` is no path of a file in a container",
        ),
    ] {
        let found = defects(text);
        assert!(found.iter().any(|found| found == expected), "{text}\n{found:#?}");
    }
}
