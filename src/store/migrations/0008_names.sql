-- Lists of one kind in one account, in the order of their names.
CREATE INDEX resources_names ON resources (kind, account, folded);
