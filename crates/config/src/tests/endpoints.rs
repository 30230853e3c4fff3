//! Lists of endpoints that stand alone: in a file, or in an answer to a request.

use model::{Endpoint, Weight};

use crate::{Source, parse_endpoints};

fn read(text: &str) -> Result<Vec<Endpoint>, String> {
    let source = Source { name: "list", text };
    parse_endpoints(&source, "web").map_err(|defects| defects.in_one_line())
}

#[test]
fn lists_and_maps_in_yaml_and_json() {
    let texts = [
        "- 127.0.0.1:1\n- { address: 10.0.0.1:2, weight: 3, zone: a, priority: 1, id: b }\n",
        "web: [ ':1', { address: '10.0.0.1:2', weight: 3, zone: a, priority: 1, id: b } ]\nb: []",
        "[\"127.0.0.1:1\",{\"address\":\"10.0.0.1:2\",\"weight\":3,\"zone\":\"a\",\"priority\":1,\
         \"id\":\"b\"}]",
        "{\n\t\"web\": [\n\t\t\"127.0.0.1:1\",\n\t\t{\n\t\t\t\"address\": \"10.0.0.1:2\",\n\
         \t\t\t\"weight\": 3, \"zone\": \"\\u0061\", \"priority\": 1, \"id\": \"b\"\n\t\t}\n\t]\n}\n",
    ];
    for text in texts {
        let all = read(text).unwrap_or_else(|wrong| panic!("{text}\n{wrong}"));
        assert_eq!(all[0], Endpoint::at("127.0.0.1:1".parse().unwrap()), "{text}");
        let expected = Endpoint {
            id: "b".into(),
            weight: Weight(3),
            zone: Some("a".into()),
            priority: 1,
            ..Endpoint::at("10.0.0.1:2".parse().unwrap())
        };
        assert_eq!(all[1..], [expected], "{text}");
    }
    for none in ["[]", "web: []", "{\"web\":[]}"] {
        assert_eq!(read(none), Ok(Vec::new()), "{none}");
    }
}

/// Each of these keeps what was known: only a list that is empty says that there is nobody.
#[test]
fn what_is_no_list_is_told_with_its_place() {
    for (text, expected) in [
        (
            "",
            "list:1:1: the text holds no list of endpoints; write `[ 127.0.0.1:5001 ]`, or `[]` for no endpoints",
        ),
        (
            "# soon\n",
            "list:1:1: the text holds no list of endpoints; write `[ 127.0.0.1:5001 ]`, or `[]` for no endpoints",
        ),
        (
            "web:\n",
            "list:1:4: this must be a list of endpoints, not nothing; write `[ 127.0.0.1:5001 ]`, or `[]` for none",
        ),
        (
            "other: []",
            "list:1:1: nothing is said of service `web`; write `web: []` if it has no endpoints",
        ),
        (
            "- :1\n- :2x\n- :3x",
            "list:2:3: \"2x\" is no port; write a number from 0 to 65535 (and 1 more)",
        ),
        ("[\":1\",", "list:1:1: this `[` is never closed; add the `]`"),
        (
            "- :1\n- :1",
            "list:2:3: 127.0.0.1:1 is listed in line 1 already; remove one; for a larger share use `weight`",
        ),
        (
            "- { address: ':1', wieght: 3 }",
            "list:1:20: unknown key `wieght` in this endpoint; did you mean `weight`?",
        ),
    ] {
        assert_eq!(read(text).unwrap_err(), expected, "{text}");
    }
}
