//! The reference page of the API in a real browser.

use serde_json::Value;

use super::browser::Browser;
use super::{DESK, PHONE, nothing_else_went_wrong};
use crate::support::dev::Dev;

async fn shots(browser: &Browser, name: &str) {
    for (size, device) in [(DESK, "desk"), (PHONE, "phone")] {
        for scheme in ["light", "dark"] {
            browser.be(size, scheme).await;
            browser.shot(&format!("{name}-{device}-{scheme}")).await;
        }
    }
    browser.be(DESK, "light").await;
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
