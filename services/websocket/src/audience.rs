//! Who receives a frame. The one place that decides whether a client may receive it.

use crate::memberships::UserChannels;

/// The name of the channel that every client receives. It is the only channel of version 1.
pub const GENERAL: &str = "general";

/// The clients that a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    Everyone,
    /// Clients of version 1, with and without a user.
    Version1,
    /// Clients of version 2, with and without a user.
    Version2,
    /// Clients of version 2 with a user.
    SignedIn,
    /// Clients of version 2 whose user is a member of the channel with this id.
    Members(i64),
    /// Clients of version 2 with this user.
    User(i64),
}

/// The client of a connection, as far as it decides which frames it receives.
#[derive(Debug)]
pub enum Recipient {
    /// A client of version 1.
    Version1,
    /// A client of version 2 without a user.
    Anonymous,
    /// A client of version 2 with a user.
    User(UserChannels),
}

impl Recipient {
    /// Returns a client without a user; `None` for a version that does not exist.
    pub fn without_user(version: Option<u8>) -> Option<Self> {
        match version {
            None | Some(1) => Some(Self::Version1),
            Some(2) => Some(Self::Anonymous),
            Some(_) => None,
        }
    }

    /// Returns whether the client belongs to the audience at this moment.
    pub fn is_in(&self, audience: Audience) -> bool {
        match (audience, self) {
            (Audience::Everyone, _)
            | (Audience::Version1, Self::Version1)
            | (Audience::Version2, Self::Anonymous | Self::User(_))
            | (Audience::SignedIn, Self::User(_)) => true,
            (Audience::Members(channel_id), Self::User(user)) => user.is_member(channel_id),
            (Audience::User(user_id), Self::User(user)) => user.user_id() == user_id,
            _ => false,
        }
    }

    /// Signs the user out. The version stays the same.
    pub fn sign_out(&mut self) {
        if let Self::User(_) = self {
            *self = Self::Anonymous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memberships::{Membership, Memberships};

    #[test]
    fn each_audience_has_its_clients() {
        let memberships = Memberships::default();
        let user = memberships.register(7);
        user.merge([Membership { channel_id: 4, version: 1, is_member: true }]);
        let recipients = [Recipient::Version1, Recipient::Anonymous, Recipient::User(user)];
        for (audience, expected) in [
            (Audience::Everyone, [true, true, true]),
            (Audience::Version1, [true, false, false]),
            (Audience::Version2, [false, true, true]),
            (Audience::SignedIn, [false, false, true]),
            (Audience::Members(4), [false, false, true]),
            (Audience::Members(5), [false, false, false]),
            (Audience::User(7), [false, false, true]),
            (Audience::User(8), [false, false, false]),
        ] {
            assert_eq!(recipients.each_ref().map(|recipient| recipient.is_in(audience)), expected, "{audience:?}");
        }
    }
}
