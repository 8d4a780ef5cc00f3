//! Whether a message calls the assistant by its name.
//!
//! Both sides are compared letter by letter, without case and in Unicode's decomposed form (NFD),
//! so that `é` typed as one character and as two is the same. There is no pattern language: every
//! character of a name stands for itself.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Whether `text` begins, after white space, with `@` and `trigger_name` as a word of its own.
///
/// The name ends at a word boundary in the sense of Unicode (UAX #29): `@Andy` is not called by
/// `@Andyman`, `@Andy_2` or `@Andy` with an accent on the `y`. Scripts that put no spaces between
/// words (Han, kana, Thai, …) have no such boundary to look for, so next to one of their
/// characters the name may end anywhere: `@小助手你好` and `@Andy你好` call. The full-width `＠` of
/// Chinese and Japanese keyboards counts as `@`. An empty name is never called.
pub fn wakes(text: &str, trigger_name: &str) -> bool {
    let call = text.trim_start_matches(|c: char| c.is_whitespace() || is_invisible(c));
    let Some(called) = call.strip_prefix(['@', '＠']) else {
        return false;
    };
    let mut called = folded(called);
    let mut last_letter = None;
    for wanted in folded(trigger_name.trim()) {
        if called.next() != Some(wanted) {
            return false;
        }
        if !is_combining_mark(wanted) {
            last_letter = Some(wanted);
        }
    }
    last_letter.is_some_and(|last| called.next().is_none_or(|next| !continues_word(last, next)))
}

/// Without case, decomposed, every sort of space the same, without what cannot be seen. Lazy: of a
/// long message only as much is looked at as the name is long.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|&c| !is_invisible(c))
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        // By way of upper case, so that final sigma and sharp s meet their other forms.
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfd()
}

/// Whether `next` still belongs to the word that `last` is in.
fn continues_word(last: char, next: char) -> bool {
    let is_joined = is_combining_mark(next) || matches!(next, '\u{200c}' | '\u{200d}');
    let is_spaced_word = |c: char| (c.is_alphanumeric() || c == '_') && !is_spaceless(c);
    is_joined || (is_spaced_word(last) && is_spaced_word(next))
}

/// Marks of direction, zero-width spaces and variation selectors, which phones put around mentions
/// and after emoji.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
    )
}

/// Characters of scripts that write words without spaces. Source: the blocks of Unicode's
/// `Blocks.txt` for the scripts with `Word_Break` other than `ALetter`.
fn is_spaceless(c: char) -> bool {
    matches!(
        c,
        '\u{0e00}'..='\u{0eff}'       // Thai, Lao
            | '\u{1000}'..='\u{109f}' // Myanmar
            | '\u{1780}'..='\u{17ff}' // Khmer
            | '\u{3005}'..='\u{3007}' // 々〆〇
            | '\u{3040}'..='\u{30ff}' // Hiragana, Katakana
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}' // Han
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff66}'..='\u{ff9f}' // half-width Katakana
            | '\u{20000}'..='\u{3ffff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(name: &str, calling: &[&str], silent: &[&str]) {
        for text in calling {
            assert!(wakes(text, name), "`{text}` calls `{name}`");
        }
        for text in silent {
            assert!(!wakes(text, name), "`{text}` does not call `{name}`");
        }
    }

    #[test]
    fn called_at_the_start_in_any_case_as_a_whole_word() {
        check(
            "Andy",
            &[
                "@Andy",
                "@andy hi",
                "@ANDY, hi",
                " \n\t\u{a0}@Andy hi",
                "@Andy's turn",
                "@Andy\nhi",
                "@Andy@Bob",
                "@Andy-hi",
                "@Andy🙂",
                "\u{200e}@\u{2068}Andy\u{2069} hi",
                "＠Andy 你好",
                "@Andy你好",
            ],
            &[
                "",
                "@",
                "Andy",
                "hi @Andy",
                "@ Andy",
                "@@Andy",
                "@And",
                "@Andyman",
                "@Andy2",
                "@Andy_",
                "@Andyé",
                "@Andy\u{301}",
                "@Andy\u{200d}x",
                "@Bob",
            ],
        );
    }

    #[test]
    fn h71_names_with_accents_in_both_forms() {
        let composed = "Jos\u{e9}";
        let decomposed = "Jose\u{301}";
        for name in [composed, decomposed] {
            check(
                name,
                &["@José", "@JOSÉ hi", "@Jose\u{301} hi", "@JOSE\u{301}"],
                &["@Jose", "@Jose hi", "@Joséphine", "@José\u{327}x", "@Jos"],
            );
        }
        check("Jose", &["@jose"], &["@José", "@Jose\u{301}"]);
        // The order of the marks on one letter is not a difference.
        check("q\u{323}\u{307}", &["@q\u{307}\u{323} hi"], &["@q\u{307}"]);
    }

    #[test]
    fn h71_names_in_scripts_without_spaces() {
        check(
            "小助手",
            &["@小助手", "@小助手 你好", "@小助手你好", "@小助手，你好", "＠小助手help"],
            &["小助手", "@小助", "@小助理", "你好@小助手"],
        );
        check("アンディ", &["@アンディさん"], &["@アンデ"]);
        check("か", &["@か行"], &["@が", "@か\u{3099}"]);
        check("が", &["@か\u{3099}行", "@が"], &["@か"]);
        check("สมชาย", &["@สมชายครับ"], &["@สมชา"]);
        check("앤디", &["@앤디 안녕"], &["@앤디야", "@앤"]);
    }

    #[test]
    fn names_that_a_pattern_language_would_misread() {
        check("Dr Who", &["@dr who?", "@Dr\u{a0}Who"], &["@DrWho", "@Dr Whom"]);
        check("C++", &["@c++ help", "@C++"], &["@C", "@CC"]);
        check("A.*", &["@a.* x"], &["@Axx", "@A"]);
        check("(x", &["@(X"], &["@x"]);
        check("a_b", &["@A_B"], &["@axb", "@a_bc"]);
        check("%", &["@%"], &["@x"]);
        check("🤖", &["@🤖 hi", "@🤖\u{fe0f}hi"], &["@🤡"]);
        check("  Andy ", &["@Andy"], &[]);
        check("", &[], &["@", "@x", "@ x"]);
        check("\u{200b}", &[], &["@", "@x"]);
    }

    #[test]
    fn letters_whose_cases_are_not_one_to_one() {
        check("Νίκος", &["@ΝΊΚΟΣ", "@νίκος!"], &["@ΝΊΚΟΣΑ"]);
        check("Strauß", &["@STRAUSS", "@strauß"], &["@Straus"]);
        check("Straus", &[], &["@Strauß"]);
        check("İpek", &["@İPEK"], &["@ipek"]);
    }

    proptest! {
        #[test]
        fn any_name_calls_and_never_panics(name in "\\PC{1,12}", text in ".{0,40}") {
            wakes(&text, &name);
            let is_seen = folded(name.trim()).any(|c| !is_combining_mark(c));
            let call = format!("@{} {text}", name.trim());
            prop_assert_eq!(is_seen, wakes(&call, &name));
        }

        #[test]
        fn only_a_call_at_the_start_counts(text in "[^@＠]{1,40}", name in "[a-z]{1,8}") {
            let prefix = text.trim_start();
            prop_assume!(prefix.chars().any(|c| !c.is_whitespace() && !is_invisible(c)));
            let call = format!("{text}@{name}");
            prop_assert!(!wakes(&call, &name));
        }
    }
}
