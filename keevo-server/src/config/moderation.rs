//! What keevod is told of moderation.

use std::path::PathBuf;

use keevo_core::Result;

use super::layers::Layers;

/// Who scores texts, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModerationConfig {
    /// The addresses of the sidecars; none = no text is judged.
    pub workers: Vec<String>,
    /// The file with the API key that they ask for.
    pub key_file: Option<PathBuf>,
    /// The file with the URL of the PostgreSQL that verdicts are copied to.
    pub postgres_url_file: Option<PathBuf>,
    /// Whether messages are judged.
    pub chat: bool,
    /// Whether activities and reactions are judged.
    pub feeds: bool,
    /// The topic of Kafka whose texts are judged.
    pub kafka: Option<KafkaTexts>,
}

/// A topic of Kafka with texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaTexts {
    /// host:port of some brokers, with commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The file with the CA of the brokers.
    pub ca: Option<PathBuf>,
    /// The file with mechanism, user and password.
    pub sasl_file: Option<PathBuf>,
}

impl ModerationConfig {
    pub(super) fn from_layers(layers: &Layers) -> Result<Self> {
        let parts = |name: &str| {
            let text = layers.text(name);
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let workers = parts("moderation_workers");
        if workers.iter().any(|url| !(url.starts_with("http://") || url.starts_with("https://"))) {
            return Err(layers.refuse("moderation_workers", "a list like http://127.0.0.1:8201,http://127.0.0.1:8202"));
        }
        let sources = parts("moderation_sources");
        let [chat, feeds, kafka] = ["chat", "feeds", "kafka"].map(|name| sources.iter().any(|one| one == name));
        if sources.is_empty() || sources.len() != [chat, feeds, kafka].into_iter().filter(|on| *on).count() {
            return Err(layers.refuse("moderation_sources", "chat, feeds, kafka, or several of them, with commas"));
        }
        let path = |name: &str| Some(layers.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (key_file, postgres_url_file) = (path("moderation_key_file"), path("moderation_postgres_url_file"));
        let texts = KafkaTexts {
            brokers: layers.text("moderation_kafka_brokers").to_owned(),
            topic: layers.text("moderation_kafka_topic").to_owned(),
            tls: layers.parse("moderation_kafka_tls", "true or false")?,
            ca: path("moderation_kafka_ca"),
            sasl_file: path("moderation_kafka_sasl_file"),
        };
        if kafka && (texts.brokers.is_empty() || texts.topic.is_empty()) {
            let name = if texts.topic.is_empty() { "moderation_kafka_topic" } else { "moderation_kafka_brokers" };
            return Err(layers.refuse(name, "set, since moderation_sources names kafka"));
        }
        if texts.ca.is_some() && !texts.tls {
            return Err(layers.refuse("moderation_kafka_tls", "true, since there is a moderation_kafka_ca"));
        }
        Ok(Self { workers, key_file, postgres_url_file, chat, feeds, kafka: kafka.then_some(texts) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    fn config(workers: &str, sources: &str) -> Result<ModerationConfig> {
        let mut layers = Layers::defaults();
        let text = format!("moderation_workers = {workers:?}\nmoderation_sources = {sources:?}\n");
        layers.add_toml(&text, std::path::Path::new("keevod.toml"))?;
        ModerationConfig::from_layers(&layers)
    }

    #[test]
    fn workers_and_sources_are_read_and_checked() {
        let both = config("http://a:1, https://b", "feeds,chat").expect("valid");
        assert_eq!(both.workers, ["http://a:1", "https://b"]);
        assert!(both.chat && both.feeds);
        let none = ModerationConfig::from_layers(&Layers::defaults()).expect("the defaults are valid");
        assert!(none.workers.is_empty() && none.chat && none.feeds && none.key_file.is_none());
        assert!(config("", "chat").is_ok_and(|config| config.chat && !config.feeds));
        for (workers, sources) in
            [("localhost:8201", "chat"), ("", "mail"), ("", ""), ("", "chat,chat"), ("", "chat,x"), ("", "kafka")]
        {
            assert_eq!(config(workers, sources).expect_err("refused").kind(), ErrorKind::Config, "{workers} {sources}");
        }
    }
}
