//! The console, seen and clicked through in a real browser against the real program.

mod acts;
mod browser;

use browser::Browser;

use crate::support::dev::Dev;

const DESK: (u32, u32) = (1280, 860);
const PHONE: (u32, u32) = (390, 844);

/// The height in the first row of the fleet, as a number.
const HEIGHT: &str =
    "Number(document.querySelector('tr.node .height [data-height]')?.dataset.height)";

async fn sign_in(browser: &Browser, host: &Dev) {
    browser.open(&host.address()).await;
    browser.type_into("#key", "bw_wrong").await;
    browser.click("form button").await;
    browser
        .until("document.querySelector('.wrong')?.innerText.includes('does not know this API key')")
        .await;
    browser
        .run("document.querySelector('#key').value = ''")
        .await;
    browser.type_into("#key", &host.key()).await;
    browser.click("form button").await;
    browser.until("document.querySelector('.live.live')").await;
}

async fn see_the_fleet(browser: &Browser) {
    browser
        .until("document.querySelector('tr.node[data-state=healthy]')")
        .await;
    let first = browser.until(HEIGHT).await.as_i64().unwrap();
    browser.until(&format!("{HEIGHT} > {first}")).await;
    browser
        .until("document.querySelector('tr.node .spark polyline')")
        .await;
}

async fn see_the_node(browser: &Browser) {
    browser.click("tr.node a").await;
    browser.until("location.hash.startsWith('#/nodes/')").await;
    // The line is drawn, not only its frame: some pixels have its colour.
    browser
        .until(
            "(() => { const canvas = document.querySelector('.chart canvas'); if (!canvas) return false; \
             const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); \
             let seen = 0; for (let i = 0; i < data.length; i += 4) \
             if (data[i + 3] > 200 && data[i + 1] > data[i] + 40) seen += 1; return seen > 100; })()",
        )
        .await;
    browser
        .until("document.querySelector('.timeline')?.innerText.includes('process started')")
        .await;
    let newest = "Number(document.querySelector('[data-newest]').dataset.newest)";
    let before = browser.until(newest).await.as_i64().unwrap();
    browser.until(&format!("{newest} > {before}")).await;
}

async fn see_incidents_and_plugins(browser: &Browser) {
    browser.click("nav a[href='#/incidents']").await;
    browser
        .until("document.querySelector('h1')?.innerText === 'Incidents'")
        .await;
    browser
        .until("document.querySelector('main .empty, main .incident')")
        .await;
    browser.click("nav a[href='#/plugins']").await;
    browser
        .until(
            "document.querySelector(\"[data-plugin='anvil-devnet/progress'][data-state=active]\")",
        )
        .await;
    let calls = "Number(document.querySelector(\"[data-plugin='anvil-devnet/progress'] .figures dd\").innerText.replace(',', ''))";
    browser.until(&format!("{calls} > 0")).await;
    browser.click("nav a[href='#/chains']").await;
    browser
        .until("document.querySelector('main article')?.innerText.includes('anvil-devnet')")
        .await;
}

/// Each page in each size and scheme: nothing is cut off at the side, and the colours follow the scheme.
async fn see_every_size_and_scheme(browser: &Browser) {
    let node = browser
        .until("(location.hash = '#/', document.querySelector('tr.node a')?.getAttribute('href'))")
        .await;
    let node = node.as_str().unwrap();
    for (scheme, is_dark) in [("light", false), ("dark", true)] {
        for (size, device) in [(DESK, "desk"), (PHONE, "phone")] {
            browser.be(size, scheme).await;
            for (name, place, sign) in [
                ("fleet", "#/", "tr.node"),
                ("node", node, ".chart canvas"),
                ("incidents", "#/incidents", ".segments"),
                ("plugins", "#/plugins", ".plugin"),
                ("chains", "#/chains", "main article"),
            ] {
                browser.run(&format!("location.hash = '{place}'")).await;
                browser
                    .until(&format!("document.querySelector('{sign}')"))
                    .await;
                let shown = format!("{name}-{device}-{scheme}");
                let seen = browser.shot(&shown).await;
                let beyond = "document.documentElement.scrollWidth - innerWidth";
                let beyond = browser.run(&format!("return {beyond}")).await;
                let seen = seen.display();
                assert!(
                    beyond.as_i64().unwrap() <= 0,
                    "{shown} is {beyond} px too wide; see {seen}"
                );
                let ground = browser
                    .run("return Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
                    .await;
                let ground = ground.as_i64().unwrap();
                assert_eq!(ground < 128, is_dark, "{shown}: {ground}; see {seen}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_signs_in_and_looks_around() {
    let mut host = Dev::new(&[]);
    host.start().await;
    let browser = Browser::start().await;
    browser.be(DESK, "light").await;
    sign_in(&browser, &host).await;
    see_the_fleet(&browser).await;
    see_the_node(&browser).await;
    see_incidents_and_plugins(&browser).await;
    see_every_size_and_scheme(&browser).await;
    // The refused key is told by the browser too.
    nothing_else_went_wrong(&browser, &host, &["401"]).await;
    let address = browser.run("return location.href").await;
    assert!(!address.as_str().unwrap().contains("bw_"), "{address}");
}

/// No error of a script and no broken rule of the page's policy, apart from answers that were refused on purpose.
async fn nothing_else_went_wrong(browser: &Browser, host: &Dev, refused: &[&str]) {
    let complaints = browser.complaints().await;
    let is_wanted = |line: &&String| {
        line.contains("Failed to load resource")
            && refused
                .iter()
                .any(|status| line.contains(&format!("status of {status}")))
    };
    let unexpected: Vec<_> = complaints.iter().filter(|line| !is_wanted(line)).collect();
    assert!(
        unexpected.is_empty(),
        "{unexpected:?}\nhost: {}",
        host.log()
    );
}
