-- nicknames is a projection of another owner's events: its consumer writes it at every role.
select attach_part('messages', '{channels, messages, link_previews}');
