//! What an administrator does in the console with API keys and the audit log.

use host_server::ops::Scope;
use serde_json::{Value, json};

use super::acts::{press, shots, shows};
use super::browser::Browser;
use super::{DESK, nothing_else_went_wrong, sign_in};
use crate::support::dev::Dev;

const CREATE: &str = ".new-key";

/// Fills in the form; every scope that exists can be chosen.
async fn create(browser: &Browser) -> String {
    browser.click("nav a[href='#/access']").await;
    browser
        .until("document.querySelector('tr[data-key^=\"admin@\"][data-state=active]')")
        .await;
    press(browser, ".head", "New key").await;
    let offered =
        "return [...document.querySelectorAll('input[name=scope]')].map((one) => one.value).sort()";
    let mut scopes: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    scopes.sort_unstable();
    browser
        .until("document.querySelector('input[name=scope]')")
        .await;
    assert_eq!(browser.run(offered).await, json!(scopes));
    browser.type_into("#key-name", "not a name").await;
    browser.click("input[value='nodes:read']").await;
    press(browser, CREATE, "Create key").await;
    shows(browser, ".new-key .wrong", "letters, digits").await;
    shots(browser, "new-key").await;
    browser
        .run("document.querySelector('#key-name').value = ''")
        .await;
    browser.type_into("#key-name", "ci").await;
    press(browser, CREATE, "Create key").await;
    let token = browser
        .until("document.querySelector('[data-token]')?.innerText")
        .await;
    browser
        .until("document.querySelector('tr[data-key=ci][data-state=active]')")
        .await;
    press(browser, ".alert", "I have copied it").await;
    browser
        .until("!document.querySelector('[data-token]')")
        .await;
    token.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_creates_and_revokes_a_key_and_reads_who_did_it() {
    let mut host = Dev::new(&[]);
    host.start().await;
    let browser = Browser::start().await;
    browser.be(DESK, "light").await;
    sign_in(&browser, &host).await;
    let token = create(&browser).await;
    let me = format!("{}/api/v1/me", host.address());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let use_token = async || client.get(&me).bearer_auth(&token).send().await.unwrap();
    let answer: Value = use_token().await.json().await.unwrap();
    assert_eq!(answer, json!({ "name": "ci", "scopes": ["nodes:read"] }));

    press(&browser, "tr[data-key=ci]", "Revoke…").await;
    press(&browser, "dialog", "Revoke").await;
    browser
        .until("document.querySelector('tr[data-key=ci][data-state=revoked]')")
        .await;
    assert_eq!(use_token().await.status(), 401);
    press(&browser, "tr[data-key^='admin@']", "Revoke…").await;
    press(&browser, "dialog", "Revoke").await;
    shows(&browser, ".told .bad", "last active").await;
    press(&browser, "dialog", "Cancel").await;

    press(&browser, ".head", "Audit log").await;
    shows(&browser, "tr[data-action=revoke_api_key]", "name: ci").await;
    browser
        .type_into("input[name=action]", "create_api_key")
        .await;
    press(&browser, ".filters", "Filter").await;
    browser
        .until("!document.querySelector('tr[data-action=revoke_api_key]')")
        .await;
    shows(&browser, "tr[data-action=create_api_key]", "admin@").await;
    let page = browser
        .run("return document.documentElement.outerHTML")
        .await;
    assert!(
        !page.as_str().unwrap().contains(&token),
        "the token is shown once"
    );
    // The key that is wrong, the name that is wrong, and the last administrator.
    nothing_else_went_wrong(&browser, &host, &["400", "401", "409"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_scope_sees_no_administration() {
    let mut host = Dev::new(&[]);
    host.start().await;
    let body = json!({ "name": "reader", "scopes": ["nodes:read", "incidents:read"] });
    let created = host.post("admin/api-keys", &body).await;
    let browser = Browser::start().await;
    browser.be(DESK, "light").await;
    browser.open(&host.address()).await;
    let token = created["token"].as_str().unwrap();
    browser.type_into("#key", token).await;
    browser.click("form button").await;
    browser
        .until("document.querySelector('nav a[href=\"#/chains\"]')")
        .await;
    browser.run("location.hash = '#/access'").await;
    shows(&browser, "main", "For administrators").await;
    let tab = browser
        .run("return document.querySelector('nav a[href=\"#/access\"]')")
        .await;
    assert_eq!(tab, Value::Null);
    nothing_else_went_wrong(&browser, &host, &[]).await;
}
