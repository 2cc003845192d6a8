//! Numbers in text.

use crate::resp::{format_f64, parse_i64};
use proptest::prelude::*;

#[test]
fn integers_have_one_spelling() {
    for text in [
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "1_0",
        "9223372036854775808",
    ] {
        assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
    }
    assert_eq!(parse_i64(b"-9223372036854775809"), None);
    assert_eq!(parse_i64(b"99999999999999999999"), None);
}

#[test]
fn doubles_are_printed_as_in_redis() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (0.000_001, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-9, "1.5e-9"),
        (3.0, "3"),
        (1e7, "10000000"),
        (1e8, "1e+8"),
        (123_456_789.0, "123456789"),
        (1e20, "1e+20"),
        (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
        (2.345_678_901_234_567, "2.345678901234567"),
        (f64::NAN, "nan"),
        (f64::INFINITY, "inf"),
    ] {
        let mut text = Vec::new();
        format_f64(&mut text, value);
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

proptest! {
    #[test]
    fn every_integer_is_read(value: i64) {
        prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
    }

    #[test]
    fn every_double_reads_back(value in proptest::num::f64::ANY) {
        prop_assume!(!value.is_nan());
        let mut text = Vec::new();
        format_f64(&mut text, value);
        let text = String::from_utf8(text).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{}", text);
    }
}
