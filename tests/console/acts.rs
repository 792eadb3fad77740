//! What an operator does in the console, beside looking: each button is pressed where a pointer finds it.

use serde_json::{Value, json};

use super::browser::Browser;
use super::{DESK, PHONE, nothing_else_went_wrong, sign_in};
use crate::support::dev::Dev;

const OBSERVATION: &str = "chains/anvil-devnet/observation.yaml";

pub(super) async fn shows(browser: &Browser, selector: &str, text: &str) {
    let (selector, text) = (json!(selector), json!(text));
    browser
        .until(&format!(
            "[...document.querySelectorAll({selector})].some((one) => one.innerText.includes({text}))"
        ))
        .await;
}

/// Presses the button that has this text.
pub(super) async fn press(browser: &Browser, within: &str, text: &str) {
    let (within, text) = (json!(within), json!(text));
    let button = format!(
        "[...document.querySelectorAll({within} + ' button')].find((one) => one.innerText.trim() === {text} && !one.disabled)"
    );
    browser.until(&format!("Boolean({button})")).await;
    browser
        .run(&format!("{button}.dataset.pressed = 'next'"))
        .await;
    browser.click("[data-pressed=next]").await;
    browser
        .run("delete document.querySelector('[data-pressed=next]')?.dataset.pressed")
        .await;
}

pub(super) async fn shots(browser: &Browser, name: &str) {
    for (size, device) in [(DESK, "desk"), (PHONE, "phone")] {
        for scheme in ["light", "dark"] {
            browser.be(size, scheme).await;
            browser.shot(&format!("{name}-{device}-{scheme}")).await;
        }
    }
    browser.be(DESK, "light").await;
}

/// The healthy node is removed, and another one is seen being made.
async fn remove_and_make(browser: &Browser, host: &Dev) {
    browser.click("tr.node a").await;
    press(browser, ".head", "Terminate…").await;
    shows(browser, "dialog[open]", "This can't be undone").await;
    shots(browser, "terminate").await;
    press(browser, "dialog", "Cancel").await;
    browser.until("!document.querySelector('dialog')").await;
    press(browser, ".head", "Terminate…").await;
    press(browser, "dialog", "Terminate").await;
    shows(browser, ".told", "is being terminated").await;
    browser
        .until("document.querySelector('.head .badge')?.innerText === 'terminated'")
        .await;
    shows(browser, ".timeline", "terminating → terminated").await;
    // What does not run has neither an age nor a number.
    browser
        .until("!/Running for|Process id/.test(document.querySelector('[aria-labelledby=processes]').innerText)")
        .await;
    let is_offered = "[...document.querySelectorAll('.head button')].some((one) => one.innerText === 'Terminate…')";
    assert_eq!(browser.run(&format!("return {is_offered}")).await, false);
    shots(browser, "terminated").await;

    let body = json!({ "chain": "anvil-devnet", "name": "second" });
    let made = host.post("nodes", &body).await;
    let id = made["node_id"].as_str().unwrap();
    browser
        .run(&format!("location.hash = '#/nodes/{id}'"))
        .await;
    browser
        .until("document.querySelector('.steps li[aria-current=step]') && document.querySelector('progress').value > 0")
        .await;
    shots(browser, "operation").await;
}

/// A configuration that can't be used: it is shown, taken, resolved, mended and read again.
async fn reject_and_reload(browser: &Browser, host: &Dev) {
    let policy = "[data-plugin='anvil-devnet/progress']";
    browser.click("nav a[href='#/plugins']").await;
    browser
        .until(&format!(
            "document.querySelector(\"{policy}[data-state=active]\")"
        ))
        .await;
    host.edit(OBSERVATION, "stalled_after_s: 15", "stalled_after_s: soon");
    shows(browser, policy, "The newest revision was rejected").await;
    shows(
        browser,
        &format!("{policy} .revisions pre"),
        "stalled_after_s",
    )
    .await;
    press(browser, ".head", "Reload configuration").await;
    shows(browser, ".told .bad", "stalled_after_s").await;
    shots(browser, "rejected").await;

    browser.click("nav a[href='#/incidents']").await;
    let row = ".incident[data-category=config_rejected]";
    browser.click(&format!("{row} a")).await;
    press(browser, "main", "Acknowledge").await;
    shows(browser, ".told", "Incident acknowledged").await;
    shows(browser, "main .badge", "acknowledged").await;
    shows(browser, ".timeline", "acknowledged by admin").await;
    shots(browser, "acknowledged").await;
    press(browser, "main", "Resolve").await;
    shows(browser, "main .badge", "resolved").await;
    let left = "[...document.querySelectorAll('main button')].length";
    assert_eq!(
        browser.run(&format!("return {left}")).await,
        0,
        "nothing is left to do"
    );

    host.edit(OBSERVATION, "stalled_after_s: soon", "stalled_after_s: 20");
    browser.click("nav a[href='#/plugins']").await;
    press(browser, ".head", "Reload configuration").await;
    shows(browser, ".told", "The configuration was reloaded").await;
    let newest = format!("document.querySelector(\"{policy} .revisions li .badge\")?.innerText");
    browser.until(&format!("{newest} === 'active'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_removes_a_node_takes_an_incident_and_reloads() {
    let mut host = Dev::new(&[]);
    host.start().await;
    host.healthy().await;
    let browser = Browser::start().await;
    browser.be(DESK, "light").await;
    sign_in(&browser, &host).await;
    remove_and_make(&browser, &host).await;
    reject_and_reload(&browser, &host).await;
    // The key that is wrong, and the reload of what can't be used.
    nothing_else_went_wrong(&browser, &host, &["401", "409"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_page_shows_every_operation_and_schema() {
    let mut host = Dev::new(&[]);
    host.start().await;
    let browser = Browser::start().await;
    browser.be(DESK, "light").await;
    browser.open(&format!("{}/docs", host.address())).await;
    browser
        .until("document.querySelector('[data-operation=create_node]')")
        .await;
    let document = serde_json::to_value(host_server::api::openapi()).unwrap();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = &operation["operationId"];
            let is_shown = format!("return Boolean(document.getElementById('op-' + {id}))");
            assert_eq!(browser.run(&is_shown).await, true, "{id}");
        }
    }
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let is_shown = format!("return Boolean(document.getElementById('schema-{name}'))");
        assert_eq!(browser.run(&is_shown).await, true, "{name}");
    }
    // Every link of the page leads somewhere, and one is followed.
    let dead = browser
        .run("return [...document.querySelectorAll('a[href^=\"#\"]')].map((one) => one.hash.slice(1)).filter((id) => !document.getElementById(id))")
        .await;
    assert_eq!(dead, Value::Array(Vec::new()));
    browser.click(".contents a[href='#op-create_node']").await;
    browser
        .until("document.querySelector('#op-create_node:target')?.innerText.includes('Idempotency-Key')")
        .await;
    shots(&browser, "docs").await;
    for (size, device) in [(DESK, "desk"), (PHONE, "phone")] {
        browser.be(size, "light").await;
        let beyond = "return document.documentElement.scrollWidth - innerWidth";
        let beyond = browser.run(beyond).await.as_i64().unwrap();
        assert!(beyond <= 0, "{device}: {beyond} px too wide");
    }
    nothing_else_went_wrong(&browser, &host, &[]).await;
}
