//! Computes all MACs anew under another master key, page by page, while brokers keep running.

use super::changes::{Change, PAGE, page};
use super::integrity::{Row, Set};
use super::portions::{Next, next};
use super::reseal::{CHANGES, RESOURCES, REVOCATIONS, resources, revocations};
use super::writer::Writer;
use super::{Store, StoreError};

impl Store {
    /// Computes every MAC anew under the first key of the master key file, page by page, so that other changes do not
    /// wait long. Once the first page is done, other brokers that have this key use it, too. Returns the number of
    /// MACs.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if a row is different from what a broker wrote. The pages before the error are then
    /// done, and another call continues after them.
    pub async fn renew(&self) -> Result<usize, StoreError> {
        let mut renewed = 0;
        let mut after = (String::new(), String::new());
        loop {
            let mut writer = self.write_renewing().await?;
            let (done, next) = writer.renew_resources(after).await?;
            writer.commit().await?;
            renewed += done;
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        let mut after = (String::new(), String::new(), String::new());
        loop {
            let mut writer = self.write_renewing().await?;
            let (done, next) = writer.renew_revocations(after).await?;
            writer.commit().await?;
            renewed += done;
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        let mut after = (String::new(), String::new());
        loop {
            let mut writer = self.write_renewing().await?;
            let (done, next) = writer.renew_directory_entries(after).await?;
            writer.commit().await?;
            renewed += done;
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        let mut after = i64::MIN;
        loop {
            let mut writer = self.write_renewing().await?;
            let (done, next) = writer.renew_changes(after).await?;
            writer.commit().await?;
            renewed += done;
            match next {
                Some(next) => after = next,
                None => return Ok(renewed),
            }
        }
    }

    async fn write_renewing(&self) -> Result<Writer<'_>, StoreError> {
        let mut writer = self.write_much().await?;
        writer.key_id = writer.keys.first()?.id().to_owned();
        Ok(writer)
    }
}

impl Writer<'_> {
    async fn renew_resources(
        &mut self,
        after: (String, String),
    ) -> Result<(usize, Next<(String, String)>), StoreError> {
        let rows = self.ask(move |c| resources(c, after)).await?;
        let last = rows.last().map(|row| (row.kind.clone(), row.id.clone()));
        let mut macs = Vec::new();
        for row in rows
            .iter()
            .filter(|row| !self.is_under_own_key(&row.mac))
            .collect::<Vec<_>>()
        {
            let (kind, old) = self.store.check_resource(row.columns(), &row.mac)?;
            let (mac, term) = self.key()?.mac(&Row::Resource(row.columns()));
            self.contents.take(Set::Of(kind), old);
            self.contents.add(Set::Of(kind), term);
            macs.push(serde_json::json!([row.kind, row.id, mac]));
        }
        let done = macs.len();
        self.update(RESOURCES, macs).await?;
        Ok((done, next(rows.len(), last)))
    }

    async fn renew_revocations(
        &mut self,
        after: (String, String, String),
    ) -> Result<(usize, Next<(String, String, String)>), StoreError> {
        let rows = self.ask(move |c| revocations(c, after)).await?;
        let last = rows
            .last()
            .map(|row| (row.selector.clone(), row.account.clone(), row.value.clone()));
        let mut macs = Vec::new();
        for row in rows
            .iter()
            .filter(|row| !self.is_under_own_key(&row.mac))
            .collect::<Vec<_>>()
        {
            let old = self
                .store
                .check(&Row::Revocation(row.columns()), &row.mac)?;
            let (mac, term) = self.key()?.mac(&Row::Revocation(row.columns()));
            self.contents.take(Set::Revocations, old);
            self.contents.add(Set::Revocations, term);
            macs.push(serde_json::json!([
                row.selector,
                row.account,
                row.value,
                mac
            ]));
        }
        let done = macs.len();
        self.update(REVOCATIONS, macs).await?;
        Ok((done, next(rows.len(), last)))
    }

    async fn renew_changes(&mut self, after: i64) -> Result<(usize, Next<i64>), StoreError> {
        let rows: Vec<(Change, String)> = self.ask(move |c| Box::pin(page(c, after, PAGE))).await?;
        let mut macs = Vec::new();
        for (change, mac) in rows.iter().filter(|(_, mac)| !self.is_under_own_key(mac)) {
            let row = (change.fields(), change.chain.as_str());
            self.store.check(&Row::Change(&row.0, row.1), mac)?;
            let (mac, _) = self.key()?.mac(&Row::Change(&row.0, row.1));
            macs.push(serde_json::json!([change.sequence, change.chain, mac]));
        }
        let done = macs.len();
        self.update(CHANGES, macs).await?;
        Ok((
            done,
            next(rows.len(), rows.last().map(|(change, _)| change.sequence)),
        ))
    }

    pub(super) fn is_under_own_key(&self, mac: &str) -> bool {
        mac.split_once(':').is_some_and(|(id, _)| id == self.key_id)
    }
}
