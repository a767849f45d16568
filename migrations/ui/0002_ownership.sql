select attach_part('ui', '{preferences, read_markers}');
