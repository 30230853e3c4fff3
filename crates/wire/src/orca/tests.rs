use super::*;

fn said(cpu: f64, memory: f64, application: f64) -> LoadReport {
    LoadReport {
        cpu: Some(cpu),
        memory: Some(memory),
        application: Some(application),
        ..LoadReport::default()
    }
}

fn check(value: &str, expected: Option<LoadReport>) {
    assert_eq!(decode(value.as_bytes()), expected, "{value}");
}

#[test]
fn the_three_forms_say_the_same() {
    let same = Some(said(0.3, 0.8, 1.5));
    check("TEXT cpu_utilization=0.3,mem_utilization=0.8,application_utilization=1.5", same);
    check("TEXT cpu_utilization:0.3, mem_utilization:8e-1 , application_utilization:1.5", same);
    check(
        "TEXT rps_fractional=10,cpu_utilization=0.3,mem_utilization=0.8,eps=1,\
         application_utilization=1.5,named_metrics.x=-1,request_cost.disk=2",
        same,
    );
    check(
        r#"JSON {"cpu_utilization": 0.3, "mem_utilization":0.8,"application_utilization":1.5}"#,
        same,
    );
    check(
        r#"JSON {"namedMetrics":{"a":[1,{"b\"":null}],"cpuUtilization":9},"cpuUtilization":0.3,
           "memUtilization":"0.8","applicationUtilization":1.5, "more": true}"#,
        same,
    );
    // protoc --encode=xds.data.orca.v3.OrcaLoadReport of it, with rps 7, and a named metric.
    let binary = "CTMzMzMzM9M/EZqZmZmZmek/GAdCDAoBeBEAAAAAAADwv0kAAAAAAAD4Pw==";
    check(&format!("BIN {binary}"), same);
    assert_eq!(decode_binary(binary.as_bytes()), same);
    assert_eq!(decode_binary(binary.trim_end_matches('=').as_bytes()), same);
}

#[test]
fn what_is_no_utilization_is_left_out() {
    let cpu = |value| Some(LoadReport { cpu: Some(value), ..LoadReport::default() });
    check("TEXT", None);
    check("TEXT ", Some(LoadReport::default()));
    check("TEXT cpu_utilization=0", cpu(0.0));
    check("TEXT cpu_utilization=2.5,mem_utilization=1.1", cpu(2.5));
    check("TEXT cpu_utilization=0.5,mem_utilization=NaN,application_utilization=-1", cpu(0.5));
    check("TEXT cpu_utilization=0.5,mem_utilization=-inf", cpu(0.5));
    check(r#"JSON {"cpu_utilization":0.5,"mem_utilization":"NaN"}"#, cpu(0.5));
    check("JSON {}", Some(LoadReport::default()));
}

#[test]
fn two_named_metrics_are_read() {
    let said = |cpu, in_flight, latency_ms| {
        Some(LoadReport { cpu, in_flight, latency_ms, ..LoadReport::default() })
    };
    let all = said(Some(0.25), Some(7.0), Some(12.5));
    check("TEXT named_metrics.rif=7,cpu_utilization=0.25,named_metrics.latency_ms=12.5", all);
    check(
        r#"JSON {"named_metrics": {"rif": 7, "other": {"rif": 1}, "latency_ms": "12.5"}, "cpu_utilization": 0.25}"#,
        all,
    );
    check(r#"JSON {"cpuUtilization":0.25,"namedMetrics":{"latency_ms":12.5,"rif":7}}"#, all);
    // As protoc --encode writes it, with a third metric.
    check(
        "BIN CQAAAAAAANA/Qg4KA3JpZhEAAAAAAAAcQEIQCgVvdGhlchEAAAAAAAAiQEIVCgpsYXRlbmN5X21zEQAAAAAAAClA",
        all,
    );
    // The value of an entry is zero if it is left out.
    check("BIN QgUKA3JpZg==", said(None, Some(0.0), None));
    // They are nowhere else, and are no other numbers.
    check("TEXT rif=7,latency_ms=3,named_metrics.cpu_utilization=1", said(None, None, None));
    check(r#"JSON {"rif":7,"named_metrics":{"cpu_utilization":1}}"#, said(None, None, None));
    check(r#"JSON {"named_metrics":3,"request_cost":{"rif":7}}"#, said(None, None, None));
    check("TEXT named_metrics.rif=-1,named_metrics.latency_ms=inf", said(None, None, None));
}

#[test]
fn what_is_not_well_formed_says_nothing() {
    for value in [
        "",
        " ",
        "text cpu_utilization=0.3",
        "XML <cpu>1</cpu>",
        "cpu_utilization=0.3",
        "TEXT cpu_utilization",
        "TEXT =1",
        "TEXT cpu_utilization=",
        "TEXT cpu_utilization=0x1",
        "TEXT cpu_utilization=1e",
        "TEXT cpu_utilization=1.",
        "TEXT cpu_utilization=.5",
        "TEXT cpu_utilization=+1",
        "TEXT cpu_utilization=1 2",
        "TEXT cpu_utilization=infinite",
        "TEXT cpu_utilization=0.1,cpu_utilization=0.9",
        "TEXT named_metrics.rif=1,named_metrics.rif=2",
        "JSON {\"named_metrics\":{\"rif\":}}",
        "JSON {\"named_metrics\":{\"rif\":1}",
        "BIN QgUKCXJpZg==",
        "BIN QgIYAQ==",
        "TEXT cpu_utilization=00000000000000000000000000000000000000000000000000000000000000000.1",
        "JSON",
        "JSON 1",
        "JSON {",
        "JSON {}}",
        "JSON {\"cpu_utilization\"}",
        "JSON {\"cpu_utilization\":}",
        "JSON {\"cpu_utilization\":0.3,}",
        "JSON {\"cpu_utilization\":NaN}",
        "JSON {\"cpu_utilization\":0.3",
        "JSON {\"cpu_utilization:0.3}",
        "JSON {\"a\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}",
        "JSON {\"a\\",
        "BIN C",
        "BIN CTMz",
        "BIN CTMzMzMzM9M/Eg==",
        "BIN CTMzMzMzM9M!",
        "BIN AAAA",
        "BIN ////////////////",
    ] {
        check(value, None);
    }
    let long = format!("TEXT cpu_utilization=0.3{}", ",a=1".repeat(REPORT_BYTES_MAX / 4));
    check(&long, None);
}
