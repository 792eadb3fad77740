//! Values from files and the environment; the vault is tested with a real one.

use host_domain::time::Millis;
use secrecy::ExposeSecret;

use super::*;

struct Standstill;

impl Clock for Standstill {
    fn now(&self) -> Millis {
        Millis(0)
    }
}

fn secrets(yaml: &str) -> PluginSecrets {
    let places = serde_yaml::from_str(yaml).unwrap();
    PluginSecrets::new(places, None, Arc::new(Standstill)).unwrap()
}

fn value(secrets: &PluginSecrets, name: &str) -> Option<String> {
    let value = secrets.secret(name)?;
    Some(value.expose_secret().to_owned())
}

#[tokio::test]
async fn a_value_is_read_at_each_refresh_and_one_that_is_lost_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let secrets = secrets(&format!("token: {{file: {}}}", path.display()));
    let grants = Grants {
        secrets: vec!["token".to_owned()],
        ..Grants::default()
    };
    secrets.refresh().await;
    let missing = secrets.check(&grants).unwrap_err().to_string();
    assert!(
        missing.starts_with(
            "`grants.secrets[0]`: the secret `token` has no value: `secrets.token.file`: "
        ),
        "{missing}"
    );
    assert!(!secrets.has_gained() && secrets.unread().contains_key("token"));

    std::fs::write(&path, "one\n").unwrap();
    secrets.refresh().await;
    assert_eq!(secrets.check(&grants), Ok(()));
    assert!(secrets.has_gained() && secrets.unread().is_empty());
    secrets.forget_gained();
    assert_eq!(value(&secrets, "token").as_deref(), Some("one"));

    std::fs::write(&path, "two").unwrap();
    assert_eq!(value(&secrets, "token").as_deref(), Some("one"));
    secrets.refresh().await;
    assert_eq!(value(&secrets, "token").as_deref(), Some("two"));

    std::fs::remove_file(&path).unwrap();
    secrets.refresh().await;
    assert_eq!(value(&secrets, "token").as_deref(), Some("two"));
    assert!(secrets.check(&grants).is_err() && !secrets.has_gained());
}

#[tokio::test]
async fn reasons_name_the_setting_and_never_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let yaml = format!(
        "lines: {{file: {}}}\nempty: {{file: {}}}\nlong: {{file: {}}}\nvariable: {{env: BELLWETHER_TEST_NO_SUCH_VARIABLE}}\npath: {{env: PATH}}\n",
        file("lines", "canary\ncanary"),
        file("empty", " \n"),
        file("long", &"canary".repeat(5_000)),
    );
    let secrets = secrets(&yaml);
    secrets.refresh().await;
    for (name, expected) in [
        ("lines", "`secrets.lines`: the value has several lines"),
        ("empty", "`secrets.empty`: the value is empty"),
        ("long", "`secrets.long`: the value has more than"),
        (
            "variable",
            "`secrets.variable.env`: the variable `BELLWETHER_TEST_NO_SUCH_VARIABLE` is not set",
        ),
        ("other", "`secrets.other` is not set"),
    ] {
        let reason = secrets.missing(name).unwrap();
        assert!(
            reason.starts_with(expected) && !reason.contains("canary"),
            "{reason}"
        );
        assert_eq!(value(&secrets, name), None);
    }
    assert_eq!(secrets.missing("path"), None);
    assert!(value(&secrets, "path").is_some());
    let shown = format!("{secrets:?}");
    assert!(shown.contains("path") && !shown.contains("/bin"), "{shown}");
}

#[test]
fn each_secret_has_one_place() {
    let read = |yaml: &str| serde_yaml::from_str::<SecretsConfig>(yaml).map_err(|e| e.to_string());
    for yaml in [
        "a: {}",
        "a: {file: x, env: Y}",
        "a: 987654",
        "a: '987654'",
        "a: 98765.4",
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains("exactly one of"), "{error}");
        assert!(!error.contains("98765"), "{error}");
    }
    let places = read("a: {vault: {path: p, field: f}}\nb: {env: Y}").unwrap();
    let written = serde_yaml::to_string(&places).unwrap();
    assert_eq!(read(&written).unwrap(), places);
    let error = check(&places, None).unwrap_err();
    assert_eq!(error.key, "secrets.a.vault");
}
