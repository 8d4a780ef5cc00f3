//! As there with `CREDENTIALS=stdin`: of `.env` just the two keys reach the container, on standard
//! input alone. By default not even these: what it gets is worth nothing elsewhere.

use super::home;

#[test]
fn just_the_keys_on_standard_input_or_none() {
    for (how, is_key) in [("stdin", true), ("proxy", false)] {
        let home = home().env("CREDENTIALS", how);
        home.write_env("ANTHROPIC_API_KEY=sk-ant-planted\nOTHER_SECRET=planted-too\n");
        let daemon = home.start();
        let said = home.run(&["ask", "nano:secrets"]).ok();
        assert!(said.starts_with("secrets: ANTHROPIC_API_KEY="), "{how}: {said}");
        assert_eq!(1, said.matches('=').count(), "{how}: {said}");
        assert_eq!(is_key, said.contains("planted"), "{how}: {said}");
        let calls = home.engine_calls();
        assert!(!calls.contains("planted"), "{how}: {calls}");
        assert_eq!(Some(0), daemon.stop());
    }
}
