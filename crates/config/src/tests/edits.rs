//! One text after the other through [`Reader`]: always what [`crate::parse`] says of it.

use std::fmt::Write as _;
use std::sync::Arc;

use super::VOCABULARY;
use crate::{Checked, Reader, Source, parse};

/// A small generator, so that a failure shows its seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((self.0 >> 33) as usize) % bound.max(1)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Ways to write a service, `N` for a number.
const SERVICES: &[&str] = &[
    " { endpoints: [ 127.0.0.1:N ] }",
    " { health: off, endpoints: [ 127.0.0.1:N, { address: 127.0.0.2:N, weight: 3 } ] } # as it is",
    "\n    endpoints: [ :N ]\n    health: { http: /healthz, interval: 2s }",
    "\n    # says why\n    policy: least_request\n    endpoints:\n      - 127.0.0.1:N\n      - address: \
     127.0.0.2:N\n        zone: a\n\n# between\n",
    "\n    endpoints:\n    - \"127.0.0.1:N\"\n    - '127.0.0.3:N'\n    affinity: { cookie: { name: KEEL } }",
    "\n    run:\n      command: |\n        serve --port\n          --name web\n      replicas: 2",
    "\n    run:\n      command: >-\n        serve folded\n\n        text N\n\n\n",
    "\n    run:\n      command: \"serve\n        over lines\n        N\"",
    "\n    run: { command: [ sh, -c, 'exec serve --unit=ü' ] }",
    "\n    retry: { attempts: 2, budget: 20% }\n    run: { command: [ serve, $PORT ] }",
    "\n    queue: { max: 10 }\n    limits: { concurrency: 5 }\n    endpoints: [\n      127.0.0.1:N,\n  127.0.0.2:N ]",
    "\n    endpoints: [ 127.0.0.1:N ]\n    timeouts:\n      connect: 1s\n   # oddly indented",
];

/// What is put in where it should not be, or where it changes what it means.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "|",
    ">",
    "|+\n",
    "|2\n",
    "#",
    " #",
    "&a ",
    "*a",
    "!x ",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ": ",
    "- ",
    "? ",
    "\t",
    "\r",
    "\r\n",
    "\n",
    "\n\n",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "ü",
    "---\n",
    "\n---\n",
    "\n...\n",
    "%YAML 1.2\n",
    " ",
    "  ",
    "\n  ",
    "\n  x:",
    "\n  s1:",
    "\n  s1: { endpoints: [ :1 ] }\n",
    "\nservices:\n",
    "\nlisteners:\n",
    "\n  <<: { a: 1 }\n",
    "<<: *a",
    "  # comment\n",
    "# at the margin\n",
    "\n   ",
    "~",
    "null",
    "0",
    "\\",
    "\0",
    "@",
    "`",
    "\n  s2: {}\n",
    "\n  s3:\n",
    "endpoints: [ :1 ]",
    "policy: maglev\n",
    "weight: 70000",
];

fn service(numbers: &mut Numbers) -> String {
    let number = (1 + numbers.below(60_000)).to_string();
    numbers.one(SERVICES).replace('N', &number)
}

/// A whole file, in one of several orders.
fn text(numbers: &mut Numbers) -> String {
    let count = 1 + numbers.below(16);
    let mut listeners = String::from("listeners:\n  web:\n    bind: :8080\n    routes:\n");
    let unused = numbers.below(3) == 0;
    for n in 0..count {
        if !(unused && numbers.below(3) == 0) {
            let _ = writeln!(listeners, "      - {{ path: /{n}/*, service: s{n} }}");
        }
    }
    listeners += "      - { path: /, service: s0 }\n";
    if numbers.below(3) == 0 {
        listeners += "  db: { bind: :8081, protocol: tcp, service: s0 }\n";
    }
    let indent = " ".repeat(numbers.one(&[&2, &2, &2, &1, &4]).to_owned());
    let mut services = String::from(numbers.one(&["services:\n", "services: # all\n\n  # one\n"]));
    for n in 0..count {
        let written = service(numbers).replace('\n', &format!("\n{}", &indent[1..]));
        let _ = writeln!(services, "{indent}s{n}:{}", written);
    }
    let mut sections = vec![listeners, services];
    for section in [
        "admin: { bind: 127.0.0.1:9900 }\n",
        "agent: { bind: 127.0.0.1:9911 }\n",
        "workers: 2\n",
        "# the end\n",
    ] {
        if numbers.below(3) == 0 {
            let at = numbers.below(sections.len() + 1);
            sections.insert(at, section.to_owned());
        }
    }
    let at = numbers.below(sections.len());
    sections.swap(0, at);
    let mut text = sections.concat();
    match numbers.below(12) {
        0 => text = text.replace('\n', "\r\n"),
        1 => text.insert(0, '\u{feff}'),
        2 => text.insert_str(0, "---\n"),
        3 => drop(text.pop()),
        4 => text = text.replacen("health: off", "health: &h off", 1),
        _ => {}
    }
    text
}

fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Something that a person, a program or an accident does to a text.
fn edit(text: &str, numbers: &mut Numbers) -> String {
    let mut edited = text.to_owned();
    let at = boundary(text, numbers.below(text.len() + 1));
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = numbers.below(lines.len());
    let with_lines = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        change(&mut lines);
        lines.concat()
    };
    let names: Vec<usize> = (0..lines.len())
        .filter(|at| {
            let line = lines[*at].trim_start_matches(' ');
            line.starts_with('s') && line.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
        })
        .collect();
    let name = |numbers: &mut Numbers| names.get(numbers.below(names.len())).copied();
    match numbers.below(18) {
        // A number more or less, as most changes are.
        0..=7 => {
            let digits: Vec<usize> =
                text.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at).collect();
            if let Some(at) = digits.get(numbers.below(digits.len())) {
                let digit = numbers.below(10).to_string();
                edited.replace_range(*at..at + 1, &digit);
            }
            edited
        }
        8 => {
            edited.insert_str(at, numbers.one(PIECES));
            edited
        }
        9 => {
            let end = boundary(text, (at + numbers.below(40)).min(text.len()));
            edited.replace_range(at.min(end)..end, "");
            edited
        }
        10 => with_lines(&|lines| drop(lines.remove(line))),
        11 => with_lines(&|lines| lines.insert(line, lines[line].clone())),
        12 => {
            let piece = numbers.one(PIECES);
            with_lines(&|lines| lines[line].insert_str(0, piece))
        }
        13 => {
            // Indented by one more or less.
            let more = numbers.below(2) == 0;
            with_lines(&|lines| {
                if more {
                    lines[line].insert(0, ' ');
                } else if lines[line].starts_with(' ') {
                    lines[line].remove(0);
                }
            })
        }
        14 => {
            // Another service, or one twice.
            let number = numbers.below(20);
            let written = service(numbers);
            let Some(at) = name(numbers) else { return edited };
            let indent = lines[at].len() - lines[at].trim_start_matches(' ').len();
            with_lines(&|lines| lines.insert(at, format!("{:indent$}s{number}:{written}\n", "")))
        }
        15 => {
            // A service is gone, with or without all of its lines.
            let Some(at) = name(numbers) else { return edited };
            let next = names.iter().find(|next| **next > at).copied().unwrap_or(lines.len());
            let end = if numbers.below(3) == 0 { at + 1 } else { next };
            with_lines(&|lines| drop(lines.drain(at..end)))
        }
        16 => {
            // Renamed.
            let Some(at) = name(numbers) else { return edited };
            let renamed =
                lines[at].replacen('s', numbers.one(&["t", "s1", "\"s", "s s", "S", "sü"]), 1);
            with_lines(&|lines| lines[at].clone_from(&renamed))
        }
        _ => {
            // What it says is written in another way.
            let written = service(numbers);
            let Some(at) = name(numbers) else { return edited };
            let next = names.iter().find(|next| **next > at).copied().unwrap_or(lines.len());
            let head = lines[at].split(':').next().unwrap_or_default().to_owned();
            with_lines(&|lines| drop(lines.splice(at..next, [format!("{head}:{written}\n")])))
        }
    }
}

type Outcome = Result<(model::spec::Spec, Vec<crate::Defect>), Vec<crate::Defect>>;

fn outcome(checked: Result<Checked, crate::Defects>) -> Outcome {
    checked.map(|checked| (checked.spec, checked.warnings)).map_err(|defects| defects.0)
}

#[test]
fn whatever_is_done_to_a_text_is_read_as_if_it_were_the_first() {
    let (mut alone, mut whole, mut refused, mut warned) = (0, 0, 0, 0);
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let mut reader = Reader::new(VOCABULARY);
        let mut text = text(&mut numbers);
        let mut good = text.clone();
        for turn in 0..12 {
            let name = numbers.one(&["evenkeel.yaml", "posted"]);
            let expected = outcome(parse(&Source { name, text: &text }, &VOCABULARY));
            let read = outcome(reader.read(name, &Arc::from(&*text)));
            assert!(
                read == expected && format!("{read:?}") == format!("{expected:?}"),
                "seed {seed}, turn {turn}:\n{text}\n{read:#?}\n{expected:#?}"
            );
            match &read {
                Err(_) => refused += 1,
                Ok((spec, _)) if reader.services_read() < spec.services.len() => alone += 1,
                Ok(_) => whole += 1,
            }
            if let Ok((_, warnings)) = &read {
                warned += usize::from(!warnings.is_empty());
                good.clone_from(&text);
            } else if numbers.below(4) > 0 {
                // What was refused is taken back; or it is made worse, or good again.
                text.clone_from(&good);
            }
            text = edit(&text, &mut numbers);
        }
    }
    eprintln!(
        "{alone} texts in part, {whole} as a whole, {refused} refused, {warned} with warnings"
    );
    assert!(alone > 400 && whole > 700 && refused > 1000 && warned > 500);
}

/// Services with an endpoint each, and a route to each.
fn many(services: usize) -> String {
    let mut text = String::from("listeners:\n  web:\n    bind: :8080\n    routes:\n");
    for n in 0..services {
        let _ = writeln!(text, "      - {{ path: /{n}/*, service: s{n} }}");
    }
    text += "services:\n";
    for n in 0..services {
        let _ = writeln!(text, "  s{n}: {{ endpoints: [ 127.0.0.1:{} ] }}", 1000 + n);
    }
    text
}

#[test]
fn a_change_costs_by_what_changes_and_the_rest_is_shared() {
    let count = 500;
    let before = many(count);
    let with_agent = format!("agent: {{ bind: 127.0.0.1:9911 }}\n{before}workers: 2\n");
    // What changes and its neighbours, or all.
    let (part, whole) = (0..=5, count..=count + 1);
    let sixth = "  s6: { endpoints: [ 127.0.0.1:1006 ] }\n";
    let last = "  s499: { endpoints: [ 127.0.0.1:1499 ] }\n";
    for (text, from, to, expected) in [
        (&before, "", "", &part),
        (&before, "127.0.0.1:1006", "127.0.0.2:1006", &part),
        (&before, "127.0.0.1:1000", "127.0.0.2:1000", &part),
        (&before, "127.0.0.1:1499", "127.0.0.2:1499", &part),
        (&with_agent, "127.0.0.1:1499", "127.0.0.2:1499", &part),
        (&before, sixth, "  s6:\n    endpoints:\n      - 127.0.0.1:1006\n# on\n\n", &part),
        // Two of them, and all between.
        (&before, "127.0.0.1:1006 ] }\n  s7", "127.0.0.2:1006 ] }\n  # on\n  s7", &part),
        // As it was, in other words.
        (&before, sixth, "  s6: { endpoints: [ \"127.0.0.1:1006\" ] }\n", &part),
        // Nothing sends to one that is new, which is to be said; but with an agent, somebody may.
        (
            &before,
            sixth,
            "  t: { endpoints: [ :1 ] }\n  s6: { endpoints: [ 127.0.0.1:1006 ] }\n",
            &whole,
        ),
        (
            &with_agent,
            sixth,
            "  t: { endpoints: [ :1 ] }\n  s6: { endpoints: [ 127.0.0.1:1006 ] }\n",
            &part,
        ),
        (
            &with_agent,
            last,
            "  s499: { endpoints: [ 127.0.0.1:1499 ] }\n  t: { endpoints: [ :1 ] }\n",
            &part,
        ),
        // Elsewhere.
        (&before, "bind: :8080", "bind: :8081", &whole),
        (&before, "/6/*", "/six/*", &whole),
        (&with_agent, "workers: 2", "workers: 3", &whole),
        (&with_agent, "workers: 2\n", "", &whole),
        // What a piece alone does not tell.
        (&before, sixth, "  s6: &a { endpoints: [ 127.0.0.1:1006 ] }\n", &whole),
        (&before, sixth, "  \"s6\": { endpoints: [ 127.0.0.1:1006 ] }\n", &whole),
        (&before, sixth, "  s6: { endpoints: [ 127.0.0.1:1006 ] }\r\n", &whole),
        (&before, sixth, "  s6: { endpoints: [\n127.0.0.1:1006 ] }\n", &whole),
    ] {
        let edited = text.replacen(from, to, 1);
        let mut reader = Reader::new(VOCABULARY);
        let first = reader.read("a", &Arc::from(&**text)).unwrap();
        assert_eq!(reader.services_read(), count);
        // One that is refused in between changes nothing.
        assert!(reader.read("a", &Arc::from(text.replacen("s7:", "s7 7:", 1))).is_err());
        let second = reader.read("a", &Arc::from(&*edited)).unwrap();
        let read = reader.services_read();
        assert!(expected.contains(&read), "{from:?} -> {to:?}: {read} services");
        let alone = outcome(parse(&Source { name: "a", text: &edited }, &VOCABULARY));
        assert_eq!(outcome(Ok(second.clone())), alone);
        let shares =
            |name: &str| Arc::ptr_eq(&first.spec.services[name], &second.spec.services[name]);
        assert!((0..count).all(|n| n == 6 || n == 0 || n == 499 || shares(&format!("s{n}"))));
        // And the next is read by this one.
        let third = edited.replacen("127.0.0.1:1250", "127.0.0.1:2250", 1);
        assert_eq!(
            outcome(reader.read("b", &Arc::from(&*third))),
            outcome(parse(&Source { name: "b", text: &third }, &VOCABULARY))
        );
    }
}

#[test]
fn a_path_that_is_written_otherwise_is_the_same_or_another() {
    let with = |path: &str| {
        format!(
            "listeners: {{ web: {{ bind: :8080, service: a }} }}\nservices:\n  \
             a: {{ endpoints: [ :5001 ], tls: {{ ca: {path} }} }}\n"
        )
    };
    let mut reader = Reader::new(VOCABULARY);
    for path in ["ca.pem/", "ca.pem", "tls//ca.pem/.", "tls/ca.pem", "./ca.pem", "ca.pem"] {
        let checked = reader.read("a", &Arc::from(with(path))).unwrap();
        let tls = checked.spec.services.get("a").unwrap().tls.as_ref().unwrap();
        // What a file is opened by.
        let shown = tls.ca.as_ref().unwrap().to_str().unwrap();
        assert_eq!(shown, path.trim_end_matches('.').trim_end_matches('/').replace("//", "/"));
    }
}

#[test]
fn services_that_others_need_or_speak_of_are_not_changed_unseen() {
    let text = many(20).replace("    routes:", "    routes:\n      - { path: /t, service: s3 }");
    let with_tcp = format!(
        "{}  t: {{ run: {{ command: [ serve, $PORT ] }} }}\n",
        text.replace(
            "listeners:\n",
            "listeners:\n  db: { bind: :9, protocol: tcp, service: s4 }\n"
        )
    );
    let mut reader = Reader::new(VOCABULARY);
    for (from, to) in [
        ("", ""),
        // Taken out of a route that is still there.
        ("  s3: { endpoints: [ 127.0.0.1:1003 ] }\n", ""),
        ("  s3:", "  s03:"),
        ("  s3:", "  s4:"),
        // A listener is warned of it, and no longer.
        ("1004 ]", "1004 ], affinity: { cookie: { name: K } }"),
        // Warnings stand where they stand now.
        ("1005 ] }", "1005 ] }\n  # one\n  # two"),
        ("$PORT", "$PORT, $PORT"),
        ("[ serve, $PORT ]", "serve"),
    ] {
        // There and back.
        let edited = with_tcp.replacen(from, to, 1);
        for (name, text) in [("a", &with_tcp), ("b", &edited), ("c", &with_tcp)] {
            let expected = outcome(parse(&Source { name, text }, &VOCABULARY));
            assert_eq!(outcome(reader.read(name, &Arc::from(&**text))), expected, "{from:?}");
        }
    }
}
