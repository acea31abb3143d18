"""Names, callings, places and monsters; every word fits any dynasty and either pronoun."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


SURNAMES = _words("沈 陆 顾 秦 林 苏 韩 叶 程 方 许 江 白 楚 温 谢 周 孟 薛 赵 何 魏 柳 宋 石 罗 卫 纪 骆 贺")

# Given names by pronoun; two signs each, none of them a word of the stories.
GIVEN = {
    "他": _words(
        "牧野 远舟 承志 长风 景行 怀瑾 云帆 子昂 望山 知远 守拙 青崖 破虏 伯言 仲谋 铁衣 明川 一鸣 振海 思齐 "
        "观澜 临渊 归鸿 凌霄 寒松 秉烛 渡川 行简 鹤龄 仁杰"
    ),
    "她": _words(
        "清漪 若兰 知微 采薇 云裳 晚晴 疏雨 青禾 映雪 初霁 素锦 玉衡 红药 望舒 灵均 昭华 沐瑶 婉如 飞燕 照影 "
        "南枝 含章 静姝 令仪 疏桐 秋棠 小满 木兰 锦书 月华"
    ),
}

JOBS = _words(
    "画师 郎中 镖师 信使 捕快 说书人 茶商 铸剑师 制灯匠 驯马师 船工 抄经人 厨子 造桥匠 烧瓷匠 猎户 琴师 木匠 药农 "
    "棋手 守城兵 染布匠 采珠人 驿卒 观星人 造纸匠 放鸢人 酿酒师"
)

PLACES = _words(
    "江边广场 地铁站口 老城菜市场 体育馆门前 大学操场 跨海大桥桥头 科技园天台 动物园后门 步行街尽头 电视塔下 "
    "火车站广场 海边灯塔旁 博物馆门口 中心公园湖边 小学门口 客运码头 立交桥下 美术馆台阶前"
)

MONSTERS = _words(
    "裂山 黑鳞 吞雷 沙暴 铁甲 冰牙 赤焰 千目 磁暴 深渊 石颅 毒雾 巨钳 夜魇 酸雨 蛛王 吼天 泥沼 棘背 噬光 "
    "乱影 回声 锈齿 覆舟"
)
