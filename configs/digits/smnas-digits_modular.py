# SM-NAS on Digits, stage 2: what is in the modules of stage 1's front, each detector trained as there.
#   python tools/search.py configs/digits/smnas-digits_modular.py
# Both fronts, and the one of both together:
#   python tools/analysis_tools/fronts.py work_dirs/smnas-digits_structural work_dirs/smnas-digits_modular \
#       --draw fronts.png --unit ms --pruning
_base_ = './smnas-digits_structural.py'
search = dict(
    space=dict(
        _delete_=True,
        type='ModularSpace',
        seeds=dict(file='work_dirs/smnas-digits_structural/best.json'),
        base=(8, 12, 16, 20, 24),
        neck=(24, 36, 48),
        depth=(5, 17),
    ),
    # The front's members, trained again, and children of theirs.
    strategy=dict(_delete_=True, type='ModularStrategy', population=4),
    budget=dict(generations=3),
)
